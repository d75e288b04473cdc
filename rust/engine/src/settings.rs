// SPDX-License-Identifier: Apache-2.0
//! The log and trace settings on their way to the control plane, which keeps and checks them
//! (`spec/triton.md` 1.13, 7.3, 7.4).
//!
//! Both protocols ask with one JSON envelope: `transport`, `model`, and either `body`, the text of an HTTP
//! request, or `settings`, those of a gRPC message. Without either, the settings are only read.

use std::collections::BTreeMap;

use bytes::Bytes;
use nerite_logic::Error;
use nerite_logic::wire::grpc::frame;
use nerite_logic::wire::grpc::messages as proto;
use proto::setting_value::Parameter;
use serde_json::{Value, json};

use crate::shared::Shared;

/// What an HTTP request for settings asks the control plane; `body` is that of a POST.
///
/// # Errors
/// If the body is not text, or what the control plane answers.
pub async fn ask(
    verb: &'static str,
    model: Option<&str>,
    body: Option<Bytes>,
    shared: &Shared,
) -> Result<Bytes, Error> {
    let mut envelope = json!({ "transport": "http", "model": model });
    if let Some(body) = body {
        let text = String::from_utf8(body.to_vec()).map_err(|_| {
            Error::invalid("failed to parse the request JSON buffer: it is not UTF-8 text")
        })?;
        envelope["body"] = Value::String(text);
    }
    control(verb, &envelope, shared).await
}

/// Answers `LogSettings`.
///
/// # Errors
/// What the control plane answers.
pub async fn log_settings(
    asked: proto::LogSettingsRequest,
    shared: &Shared,
) -> Result<Bytes, Error> {
    let value = |value: proto::SettingValue| match value.parameter {
        None => Value::Null,
        Some(Parameter::Bool(value)) => Value::Bool(value),
        Some(Parameter::Uint32(value)) => Value::from(value),
        Some(Parameter::String(value)) => Value::String(value),
    };
    let settings: BTreeMap<String, Value> = asked
        .settings
        .into_iter()
        .map(|(name, setting)| (name, value(setting)))
        .collect();
    let envelope = json!({ "transport": "grpc", "settings": settings });
    let answer = control("log_settings", &envelope, shared).await?;
    let now: BTreeMap<String, Value> = read(&answer)?;
    let parameter = |value: Value| match value {
        Value::Bool(value) => Some(Parameter::Bool(value)),
        Value::String(value) => Some(Parameter::String(value)),
        Value::Number(value) => {
            let value = value.as_u64().and_then(|value| u32::try_from(value).ok());
            value.map(Parameter::Uint32)
        }
        _ => None,
    };
    let settings = now.into_iter().map(|(name, value)| {
        let parameter = parameter(value);
        (name, proto::SettingValue { parameter })
    });
    Ok(frame(&proto::LogSettingsResponse {
        settings: settings.collect(),
    }))
}

/// Answers `TraceSetting`.
///
/// # Errors
/// What the control plane answers.
pub async fn trace_setting(
    asked: proto::TraceSettingRequest,
    shared: &Shared,
) -> Result<Bytes, Error> {
    let model = Some(asked.model_name).filter(|name| !name.is_empty());
    let settings: BTreeMap<String, Vec<String>> = asked
        .settings
        .into_iter()
        .map(|(name, values)| (name, values.value))
        .collect();
    let envelope = json!({ "transport": "grpc", "model": model, "settings": settings });
    let answer = control("trace_settings", &envelope, shared).await?;
    let now: BTreeMap<String, Value> = read(&answer)?;
    let texts = |value: Value| match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list
            .into_iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    };
    let settings = now.into_iter().map(|(name, value)| {
        let value = texts(value);
        (name, proto::TraceSettingValue { value })
    });
    Ok(frame(&proto::TraceSettingResponse {
        settings: settings.collect(),
    }))
}

async fn control(verb: &'static str, envelope: &Value, shared: &Shared) -> Result<Bytes, Error> {
    let payload = Bytes::from(envelope.to_string());
    shared.control.ask(verb, payload).await
}

fn read(answer: &[u8]) -> Result<BTreeMap<String, Value>, Error> {
    serde_json::from_slice(answer)
        .map_err(|why| Error::internal(format!("settings are not usable: {why}")))
}
