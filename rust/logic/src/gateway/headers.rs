// SPDX-License-Identifier: Apache-2.0
//! Headers that mean one hop only (RFC 9110, 7.6.1), and host names as clients write them.

/// Whether a header, its name in lower case, ends at this hop. `connection` may name more.
#[must_use]
pub fn ends_here(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "expect"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The names that a `Connection` header adds to those.
pub fn named_by_connection(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

/// The host of a `Host` header or an `:authority`, without its port.
#[must_use]
pub fn host_of(authority: &str) -> &str {
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(host, |(inside, _)| inside),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}
