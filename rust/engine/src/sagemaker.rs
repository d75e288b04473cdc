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
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::http::{Reply, empty, json};
use crate::request_body::read_body;
use crate::routes::guard::Sight;
use crate::server::Shared;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Loaded<'a> {
    model_name: &'a str,
    /// Models that were there at the start came from no URL that SageMaker gave.
    model_url: &'static str,
}

/// The body of a load.
#[derive(Deserialize)]
struct Wanted {
    model_name: String,
    url: String,
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
            let wanted: Wanted = serde_json::from_slice(&read_body(head, body, shared).await?)
                .map_err(|why| Error::invalid(format!("the body is no model to load: {why}")))?;
            let Wanted { model_name, url } = wanted;
            // A repository is chosen at the start; one that a request names is not taken in.
            Err(Error::unsupported(format!(
                "model '{model_name}' cannot be loaded from '{url}': models are loaded from the model \
                 repositories of the start only, with /v2/repository/models/{model_name}/load"
            ))
            .into())
        }
        (Some(name), &Method::DELETE) => {
            known(name, shared)?;
            let payload =
                serde_json::json!({"model": name, "parameters": {"unload_dependents": true}});
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
    match shared.table().find(name, None) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::not_found(format!("model '{name}' is not loaded")).into()),
    }
}
