// SPDX-License-Identifier: Apache-2.0
//! The description of the endpoints, which the control plane writes, and a page that shows it.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use serde::Serialize;

use crate::body::ReplyBody;
use crate::failure::Failure;
use crate::graph::hosted;
use crate::metadata::{Model, Server};
use crate::reply::{JSON, Reply, with_type};
use crate::routes::guard::Sight;
use crate::shared::Shared;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// The page may ask this server, and nobody else.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'",
);

/// What the control plane must know to write the description.
#[derive(Serialize)]
struct Described<'a> {
    server: Server<'a>,
    models: Vec<DescribedModel>,
    graphs: Vec<hosted::Told>,
}

#[derive(Serialize)]
struct DescribedModel {
    #[serde(flatten)]
    metadata: Model,
    optional: Vec<String>,
    max_batch_size: u32,
    decoupled: bool,
}

/// The description of what may be seen (OpenAPI 3.1).
///
/// # Errors
/// If the control plane is not there.
pub async fn document(sight: Sight<'_>, shared: &Arc<Shared>) -> Result<Reply, Failure> {
    let payload = {
        let table = shared.table();
        let seen = table.names().filter(|name| sight.sees(name));
        let ready = seen.filter_map(|name| table.find(name, None).ok());
        let models = ready.map(|version| {
            let spec = &version.spec;
            let optional = spec.inputs.iter().filter(|input| input.optional);
            DescribedModel {
                metadata: Model::of(&table, version, false),
                optional: optional.map(|input| input.name.to_string()).collect(),
                max_batch_size: spec.max_batch_size,
                decoupled: spec.decoupled,
            }
        });
        let described = Described {
            server: Server::of(&shared.options),
            models: models.collect(),
            graphs: shared.graphs.seen(sight),
        };
        serde_json::to_vec(&described).unwrap_or_default()
    };
    let answer = shared.control.ask("openapi", payload.into()).await?;
    Ok(with_type(StatusCode::OK, JSON, ReplyBody::one(answer)))
}

/// The page.
pub fn page() -> Reply {
    let text = Bytes::from_static(include_bytes!("docs.html"));
    let mut reply = with_type(StatusCode::OK, HTML, ReplyBody::one(text));
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
    reply
}
