//! The page and what it loads: all of it is part of the binary, nothing comes from elsewhere.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

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
}

static ASSETS: LazyLock<[Asset; 4]> = LazyLock::new(|| {
    let script = "text/javascript; charset=utf-8";
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    [
        Asset { name: "dashboard.css", content_type: "text/css; charset=utf-8", body: text(include_str!("page/dashboard.css")) },
        Asset { name: "dashboard.js", content_type: script, body: text(include_str!("page/dashboard.js")) },
        Asset { name: "charts.js", content_type: script, body: text(include_str!("page/charts.js")) },
        Asset { name: "plotly.js", content_type: script, body: plotly() },
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

/// Plotly's script out of the HTML that the crate gives: the first of two elements; the second draws formulas, of which we have none.
fn plotly() -> Bytes {
    const OPEN: &str = "<script type=\"text/javascript\">";
    let html = plotly::Plot::offline_js_sources();
    let first = html.rsplit_once(OPEN).map_or(html.as_str(), |(first, _)| first).trim();
    let script = first.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix("</script>")).unwrap_or(first);
    Bytes::from(script.to_owned())
}

/// Answers `GET /`.
pub(super) async fn index(State(_): State<Arc<Site>>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (HeaderName::from_static("content-security-policy"), HeaderValue::from_static(POLICY)),
    ];
    (headers, INDEX.clone()).into_response()
}

/// Answers `GET /assets/<name>`.
pub(super) async fn asset(Path(name): Path<String>) -> Result<Response, Problem> {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    let asset = found.ok_or_else(|| Problem::not_found(&format!("there is no asset '{name}'"), "load the page again"))?;
    let headers = [(header::CONTENT_TYPE, asset.content_type), (header::CACHE_CONTROL, KEEP)];
    Ok((headers, asset.body.clone()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plotly_is_its_script_alone() {
        let script = plotly();
        let text = std::str::from_utf8(&script).unwrap();
        assert!(text.starts_with("/**\n* plotly.js v"), "{}", &text[..80]);
        assert!(text.trim_end().ends_with("}));"), "{}", &text[text.len() - 80..]);
        assert!(!text.contains("MathJax.loader"), "the formula renderer came along");
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
