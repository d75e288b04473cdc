// SPDX-License-Identifier: Apache-2.0
//! InferenceGraphs of the gateway: steps are asked over the same connections as any component, without
//! another pass through the gateway.

use nerite_logic::gateway::failure::Failure;
use nerite_logic::gateway::graph::{Stopped, Target};
use nerite_logic::gateway::headers::host_of;

use super::forward::forward;
use super::live::Live;
use super::shared::Shared;
use super::speech::Speech;
use crate::graph::outside::{request, send, taken};
use crate::graph::{Asked, Boxed, Call, Outcome, Steps, run};

/// The components of a table answer, and whoever else a URL names.
pub struct Components<'g> {
    /// The routes as they were when the request came.
    pub live: &'g Live,
    /// The gateway.
    pub shared: &'g Shared,
}

impl Steps for Components<'_> {
    fn ask<'s>(&'s self, call: Call<'s>) -> Boxed<'s> {
        Box::pin(async move {
            match call.target {
                Target::Url {
                    tls,
                    authority,
                    path,
                } => self.url(*tls, authority, path, call).await,
                target => Err(Stopped::Cause(format!(
                    "the URL \"{target}\" has no usable scheme; write http:// or https://"
                ))),
            }
        })
    }
}

impl Components<'_> {
    async fn url(&self, tls: bool, authority: &str, path: &str, call: Call<'_>) -> Outcome {
        let place = self.live.table.at_host(host_of(authority), path);
        let component = place.and_then(|place| self.live.component(place));
        if let Some(flow) = component.and_then(|component| component.flow.as_ref()) {
            let asked = Asked {
                headers: call.headers.clone(),
                payload: call.input,
                trail: call.trail.below(),
            };
            return run(flow, asked, self).await;
        }
        let target = call.target;
        let request = request(call, authority, path)?;
        let reply = match component {
            Some(component) => forward(component, Speech::Http, request, self.shared)
                .await
                .map_err(|failure: Failure| Stopped::Cause(failure.text))?,
            None => send(tls, authority, request, &self.shared.reach).await?,
        };
        taken(reply, self.shared.options.max_request_bytes, target).await
    }
}
