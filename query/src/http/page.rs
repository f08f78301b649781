//! The page and what it loads: all of it is part of the binary, nothing comes from elsewhere.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::{Arc, LazyLock, OnceLock};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::task::spawn_blocking;

use super::Site;
use super::problem::Problem;

/// Addresses of assets change with their content, so they may be kept for good.
const KEEP: &str = "private, max-age=31536000, immutable";
/// The page may load its own files only. Plotly sets styles from its script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file that the page loads.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    body: Bytes,
    /// Compressed when it is first asked for so.
    gzip: OnceLock<Bytes>,
}

impl Asset {
    fn new(name: &'static str, content_type: &'static str, body: Bytes) -> Self {
        Self { name, content_type, body, gzip: OnceLock::new() }
    }

    fn gzip(&self) -> Bytes {
        let compressed = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            // Writing to memory does not fail; if it did, an empty body that is none of gzip's is noticed.
            let _ = encoder.write_all(&self.body);
            Bytes::from(encoder.finish().unwrap_or_default())
        };
        self.gzip.get_or_init(compressed).clone()
    }
}

static ASSETS: LazyLock<[Asset; 4]> = LazyLock::new(|| {
    let script = "text/javascript; charset=utf-8";
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    [
        Asset::new("dashboard.css", "text/css; charset=utf-8", text(include_str!("page/dashboard.css"))),
        Asset::new("dashboard.js", script, text(include_str!("page/dashboard.js"))),
        Asset::new("charts.js", script, text(include_str!("page/charts.js"))),
        // What lines, bars and points need of Plotly 3.0.1, as npm's plotly.js-basic-dist-min has it; its licence is beside it.
        Asset::new("plotly.js", script, text(include_str!("page/plotly-basic.min.js"))),
    ]
});

/// The page, with the version of each asset in its address.
static INDEX: LazyLock<Bytes> = LazyLock::new(|| {
    let mut page = include_str!("page/index.html").to_owned();
    for asset in ASSETS.iter() {
        let mut hasher = DefaultHasher::new();
        asset.body.hash(&mut hasher);
        let address = format!("/assets/{}", asset.name);
        page = page.replace(&format!("\"{address}\""), &format!("\"{address}?v={:016x}\"", hasher.finish()));
    }
    Bytes::from(page)
});

/// Answers `GET /`.
pub(super) async fn index(State(_): State<Arc<Site>>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (HeaderName::from_static("content-security-policy"), HeaderValue::from_static(POLICY)),
    ];
    (headers, INDEX.clone()).into_response()
}

/// Answers `GET /assets/<name>`.
pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    let asset = found.ok_or_else(|| Problem::not_found(&format!("there is no asset '{name}'"), "load the page again"))?;
    let kept = [(header::CONTENT_TYPE, asset.content_type), (header::CACHE_CONTROL, KEEP), (header::VARY, "accept-encoding")];
    if takes_gzip(&headers)
        && let Ok(body) = spawn_blocking(|| asset.gzip()).await
    {
        return Ok((kept, [(header::CONTENT_ENCODING, "gzip")], body).into_response());
    }
    Ok((kept, asset.body.clone()).into_response())
}

/// True if the client takes gzip: it names it, and not with `q=0`.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    codings.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        named
            && !parts.any(|part| part.strip_prefix("q=").is_some_and(|quality| quality.parse::<f32>().is_ok_and(|quality| quality == 0.0)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bundle of Plotly has some kinds of traces only.
    #[test]
    fn plotly_has_what_charts_are_made_of_and_little_else() {
        let script = std::str::from_utf8(&ASSETS[3].body).unwrap();
        assert!(script.starts_with("/**\n* plotly.js (basic - minified) v"), "{}", &script[..80]);
        assert!(script.len() < 1_200_000, "{} bytes", script.len());
        let charts = std::str::from_utf8(&ASSETS[2].body).unwrap();
        let mut kinds: Vec<&str> = charts.split("type: \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        // A rectangle is a shape of the layout, no trace.
        assert_eq!(kinds, ["bar", "rect", "scatter"]);
        for kind in ["bar", "scatter"] {
            assert!(script.contains(&format!("moduleType:\"trace\",name:\"{kind}\"")), "no {kind}");
        }
    }

    #[test]
    fn gzip_is_for_who_takes_it() {
        let takes = |value: &'static str| takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]));
        assert!(takes("gzip, deflate, br") && takes("br;q=1.0, GZIP;q=0.5"));
        assert!(!takes("br") && !takes("gzip;q=0") && !takes("identity") && !takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn every_address_of_the_page_has_an_asset_and_a_version() {
        let page = std::str::from_utf8(&INDEX).unwrap();
        let addresses: Vec<&str> = page.split("\"/assets/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(addresses.len(), ASSETS.len(), "{addresses:?}");
        assert!(addresses.iter().all(|address| address.contains("?v=")), "{addresses:?}");
        assert!(!page.contains("http://") && !page.contains("https://"), "the page loads something from elsewhere");
    }
}
