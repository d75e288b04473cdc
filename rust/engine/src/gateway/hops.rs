// SPDX-License-Identifier: Apache-2.0
//! What changes in a head from one hop to the next.

use hyper::HeaderMap;
use hyper::header::{CONNECTION, Entry, HOST, HeaderName, HeaderValue, TE, UPGRADE};
use nerite_logic::gateway::headers::{ends_here, named_by_connection};

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Whether a request asks for another protocol on its connection, which ends here.
pub fn asks_for_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|asked| asked.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Removes what meant this hop only; `TE: trailers` stays, because gRPC asks for it end to end.
pub fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(named_by_connection)
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    let trailers = headers.get(TE).is_some_and(|te| te == "trailers");
    let ending: Vec<HeaderName> = headers
        .keys()
        .filter(|name| ends_here(name.as_str()))
        .cloned()
        .collect();
    for name in ending {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Says for whom, by which name and under which prefix the request came.
pub fn tell_origin(
    headers: &mut HeaderMap,
    peer: &HeaderValue,
    authority: &HeaderValue,
    prefix: &str,
) {
    let before = headers.get(&FORWARDED_FOR).and_then(|v| v.to_str().ok());
    let all = before.and_then(|before| {
        HeaderValue::from_str(&format!("{before}, {}", peer.to_str().ok()?)).ok()
    });
    headers.insert(&FORWARDED_FOR, all.unwrap_or_else(|| peer.clone()));
    let http = HeaderValue::from_static("http");
    let prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
    for (name, value) in [
        (&FORWARDED_HOST, Some(authority.clone())),
        (&FORWARDED_PROTO, Some(http)),
        (
            &FORWARDED_PREFIX,
            prefix.and_then(|prefix| HeaderValue::from_str(prefix).ok()),
        ),
    ] {
        // What a gateway before this one said is nearer to the client.
        if let Some(value) = value.filter(|value| !value.is_empty())
            && let Entry::Vacant(free) = headers.entry(name)
        {
            free.insert(value);
        }
    }
}

/// Says by which name the client asked, wherever it said so.
pub fn set_host(headers: &mut HeaderMap, authority: &HeaderValue) {
    if headers.get(HOST) != Some(authority) {
        headers.insert(HOST, authority.clone());
    }
}
