// SPDX-License-Identifier: Apache-2.0
//! The models of SageMaker's multi-model mode (`spec/triton.md` 9.4).
//!
//! What was loaded from where, and under which hash, the control plane knows; whether it is ready is told
//! from the live table.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use nerite_logic::Error;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::failure::Failure;
use crate::reply::{Reply, empty, json};
use crate::request_body::read_body;
use crate::routes::doors::{Hosted, target_model};
use crate::routes::guard::Sight;
use crate::shared::Shared;

/// A model in a list; one that is not ready has neither member.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(skip_serializing_if = "Option::is_none")]
    model_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_url: Option<String>,
}

/// The body of a load.
#[derive(Deserialize)]
struct Wanted {
    model_name: String,
    url: String,
}

/// A model that a request had loaded, as the control plane tells it.
#[derive(Deserialize)]
struct Loaded {
    hash: String,
    target: String,
    url: String,
    /// Every model that came with it, itself included.
    members: Vec<String>,
}

/// Answers about models, or changes them.
///
/// # Errors
/// If there is no such model, or the control plane refuses.
pub async fn models(
    model: Option<Hosted<'_>>,
    head: &Parts,
    sight: Sight<'_>,
    body: &mut Incoming,
    shared: &Arc<Shared>,
) -> Result<Reply, Failure> {
    let (verb, payload) = match (model, &head.method) {
        (None, &Method::POST) => {
            let wanted: Wanted = serde_json::from_slice(&read_body(head, body, shared).await?)
                .map_err(|why| Error::invalid(format!("the body is no model to load: {why}")))?;
            let Wanted { model_name, url } = wanted;
            let target = target_model(&head.headers).unwrap_or(&model_name);
            let reach = sight.patterns();
            let payload = json!({"hash": model_name, "target": target, "url": url, "reach": reach});
            ("sagemaker_load", payload)
        }
        (Some(hosted), &Method::DELETE) => {
            let reach = sight.patterns();
            let payload = json!({"hash": hosted.hash, "target": hosted.model(), "reach": reach});
            ("sagemaker_unload", payload)
        }
        (model, _) => return told(model, sight, shared).await,
    };
    let payload = Bytes::from(payload.to_string());
    shared.control.ask(verb, payload).await?;
    Ok(empty(StatusCode::OK))
}

async fn told(
    model: Option<Hosted<'_>>,
    sight: Sight<'_>,
    shared: &Arc<Shared>,
) -> Result<Reply, Failure> {
    let answer = shared.control.ask("sagemaker_models", Bytes::new()).await?;
    let mut loaded: Vec<Loaded> = serde_json::from_slice(&answer)
        .map_err(|why| Error::internal(format!("the list of models is not usable: {why}")))?;
    loaded.retain(|each| sight.sees(&each.target));
    match model {
        None => Ok(list(&loaded, sight, shared)),
        Some(hosted) => one(hosted, loaded, shared),
    }
}

fn one(hosted: Hosted<'_>, loaded: Vec<Loaded>, shared: &Shared) -> Result<Reply, Failure> {
    if let Some(found) = loaded.into_iter().find(|each| each.hash == hosted.hash) {
        return Ok(json(&listed(found.hash, found.url)));
    }
    let name = hosted.model();
    match shared.table().find(name, None) {
        Ok(_) => Ok(json(&listed(name.to_owned(), String::new()))),
        Err(_) => Err(Error::not_found(format!("model '{name}' is not loaded")).into()),
    }
}

fn list(loaded: &[Loaded], sight: Sight<'_>, shared: &Shared) -> Reply {
    #[derive(Serialize)]
    struct All {
        models: Vec<Listed>,
    }
    let table = shared.table();
    let is_ready = |name: &str| table.find(name, None).is_ok();
    let asked = loaded.iter().map(|each| match is_ready(&each.target) {
        true => listed(each.hash.clone(), each.url.clone()),
        false => Listed::default(),
    });
    // Models that were there at the start came from no URL that SageMaker gave.
    let came = |name: &str| {
        loaded
            .iter()
            .any(|each| each.members.iter().any(|m| m == name))
    };
    let others = table
        .names()
        .filter(|name| sight.sees(name) && is_ready(name) && !came(name))
        .map(|name| listed(name.to_owned(), String::new()));
    let models = asked.chain(others).collect();
    json(&All { models })
}

const fn listed(name: String, url: String) -> Listed {
    Listed {
        model_name: Some(name),
        model_url: Some(url),
    }
}
