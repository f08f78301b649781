//! Keeps other web sites out. A page in a browser on this machine can send requests to loopback, and with a name that resolves to
//! 127.0.0.1 (DNS rebinding) even read the answers. So: the request must name a loopback host, and must not come from another site's
//! page. No CORS header is ever sent. A browser always names a host, so a request that names none comes from a program; simple ones that look
//! after a process name none, and are told how it is.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;

/// Set on every answer that does not say otherwise.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// What those ask for who look after the process.
const OF_SUPERVISORS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Whether those ask for it who look after the process.
pub(super) fn is_of_supervisors(path: &str) -> bool {
    OF_SUPERVISORS.contains(&path)
}

/// Refuses strangers, passes all others on.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    with_headers(match refusal(request.headers(), request.uri()) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    })
}

/// An answer with what every answer says.
pub(super) fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn refusal(headers: &HeaderMap, uri: &Uri) -> Option<Problem> {
    let path = uri.path();
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    // HTTP/2 names the host in the address; where both do, they say the same or one of them is a lie.
    let named = headers.get_all(header::HOST).iter().map(|value| value.to_str().unwrap_or("?"));
    let named: Vec<&str> = uri.authority().map(|authority| authority.as_str()).into_iter().chain(named).collect();
    let host = named.iter().find(|host| !is_loopback(host)).or(named.first()).copied();
    match host {
        None if is_of_supervisors(path) => {}
        Some(host) if is_loopback(host) => {}
        _ => {
            let what = match host {
                Some(host) => format!("requests for host '{host}' are not answered"),
                None => format!("requests that name no host are answered at {} only", OF_SUPERVISORS.join(", ")),
            };
            return Some(Problem::stranger(
                &what,
                "only this machine is served, and a name for it could be another web site's",
                "use http://127.0.0.1 or http://localhost with the same port",
            ));
        }
    }
    let stranger = Problem::stranger(
        "requests from other web sites' pages are not answered",
        "there is no access control yet, so a page could read every table",
        "open the address itself, or ask from a program",
    );
    let from = text(header::ORIGIN).filter(|origin| *origin != "null");
    let own_origin = from.is_none_or(|origin| host.is_some() && origin.strip_prefix("http://") == host);
    let opaque = text(header::ORIGIN) == Some("null");
    // A link on another page to the dashboard is harmless: that page does not see what opens.
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let own_site = path == "/" || site.is_none_or(|site| matches!(site, "same-origin" | "none"));
    (!own_origin || opaque || !own_site).then_some(stranger)
}

/// Whether `host[:port]` means this machine by itself, without a look-up.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => address,
            Some((address, port)) if is_port(port) => address,
            _ => return false,
        },
        None => match host.split_once(':') {
            None => host,
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            Some(_) => return false,
        },
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_need_no_look_up_are_this_machine() {
        for host in ["localhost", "LOCALHOST:8321", "127.0.0.1:8321", "127.1.2.3", "[::1]:8321", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example:8321",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::1",
            "[::1]x",
            "localhost:x",
            "::1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    fn refused(headers: &[(&str, &str)], path: &str) -> bool {
        let mut map = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("localhost:1"))]);
        for (name, value) in headers {
            map.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        refusal(&map, &path.parse().unwrap()).is_some()
    }

    #[test]
    fn every_host_that_is_named_is_looked_at() {
        let refused = |uri: &str, hosts: &[&'static str]| {
            let map = HeaderMap::from_iter(hosts.iter().map(|host| (header::HOST, HeaderValue::from_static(host))));
            refusal(&map, &uri.parse().unwrap()).is_some()
        };
        assert!(!refused("http://127.0.0.1:1/sql", &[]), "as HTTP/2 does");
        assert!(!refused("http://localhost:1/sql", &["localhost:1"]));
        for (uri, hosts) in [
            ("/sql", &[][..]),
            ("http://evil.example/sql", &[]),
            ("http://evil.example/sql", &["localhost:1"]),
            ("http://localhost:1/sql", &["evil.example"]),
            ("/sql", &["localhost:1", "evil.example"]),
        ] {
            assert!(refused(uri, hosts), "{uri} {hosts:?}");
        }
    }

    /// Kubernetes' and HAProxy's checks over HTTP/1.0, say.
    #[test]
    fn who_looks_after_the_process_may_name_no_host() {
        let refused = |headers: &[(HeaderName, &'static str)], path: &str| {
            let map = HeaderMap::from_iter(headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))));
            refusal(&map, &path.parse().unwrap()).is_some()
        };
        for path in OF_SUPERVISORS {
            assert!(!refused(&[], path), "{path}");
            // A browser names one, so these may be another site's.
            for header in [
                (header::HOST, "evil.example"),
                (header::HOST, ""),
                (header::ORIGIN, "https://evil.example"),
                (header::ORIGIN, "http://"),
                (HeaderName::from_static("sec-fetch-site"), "cross-site"),
            ] {
                assert!(refused(std::slice::from_ref(&header), path), "{path} {header:?}");
            }
        }
        for path in ["/", "/sql", "/panels", "/pipelines", "/healthzz", "/healthz/"] {
            assert!(refused(&[], path), "{path}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        for headers in [
            &[("host", "evil.example")][..],
            &[("origin", "https://evil.example")],
            &[("origin", "http://localhost:2")],
            &[("origin", "null")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            assert!(refused(headers, "/sql"), "{headers:?}");
        }
        for headers in [&[][..], &[("origin", "http://localhost:1")], &[("sec-fetch-site", "same-origin")], &[("sec-fetch-site", "none")]] {
            assert!(!refused(headers, "/sql"), "{headers:?}");
        }
        assert!(!refused(&[("sec-fetch-site", "cross-site")], "/"), "a link to the dashboard");
    }
}
