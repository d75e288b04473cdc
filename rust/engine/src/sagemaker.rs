// SPDX-License-Identifier: Apache-2.0
//! The models of SageMaker's multi-model mode (`spec/triton.md` 9.4).
//!
//! What is loaded is told from the live table; loading and unloading is asked of the control plane, whose
//! refusals are answered as they are.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use nerite_logic::Error;
use serde::Serialize;

use crate::http::{Failure, Reply, empty, json, read_body};
use crate::routes::guard::Sight;
use crate::server::Shared;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Loaded<'a> {
    model_name: &'a str,
    /// Models that were there at the start came from no URL that SageMaker gave.
    model_url: &'static str,
}

/// Answers about models, or changes them.
///
/// # Errors
/// If there is no such model, or the control plane refuses.
pub async fn models(
    model: Option<&str>,
    head: &Parts,
    sight: Sight<'_>,
    body: &mut Incoming,
    shared: &Arc<Shared>,
) -> Result<Reply, Failure> {
    match (model, &head.method) {
        (None, &Method::POST) => {
            let payload = read_body(body, None, shared).await?;
            shared.control.ask("repository_load", payload).await?;
            Ok(empty(StatusCode::OK))
        }
        (Some(name), &Method::DELETE) => {
            known(name, shared)?;
            let payload = serde_json::json!({"model_name": name, "unload_dependents": true});
            let payload = Bytes::from(payload.to_string());
            shared.control.ask("repository_unload", payload).await?;
            Ok(empty(StatusCode::OK))
        }
        (Some(name), _) => {
            known(name, shared)?;
            Ok(json(&loaded(name)))
        }
        (None, _) => Ok(list(sight, shared)),
    }
}

fn list(sight: Sight<'_>, shared: &Shared) -> Reply {
    #[derive(Serialize)]
    struct All<'a> {
        models: Vec<Loaded<'a>>,
    }
    let table = shared.table();
    let ready = table.names().filter(|name| table.find(name, None).is_ok());
    let models = ready.filter(|name| sight.sees(name)).map(loaded).collect();
    json(&All { models })
}

const fn loaded(name: &str) -> Loaded<'_> {
    Loaded {
        model_name: name,
        model_url: "",
    }
}

fn known(name: &str, shared: &Shared) -> Result<(), Failure> {
    match shared.table().entry(name) {
        Some(_) => Ok(()),
        None => Err(Error::not_found(format!("model '{name}' is not loaded")).into()),
    }
}
