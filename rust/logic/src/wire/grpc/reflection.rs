// SPDX-License-Identifier: Apache-2.0
//! `grpc.reflection.v1` and `v1alpha`, whose messages are the same: what the services of this server look like.
//!
//! The descriptors are data (`descriptors.binpb`, made by `scripts/make_descriptors.py`). Answers hold the file
//! that was asked for and every file that it needs.

use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message;

use super::frame::frame;
use crate::error::{Code, Error};

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| read(include_bytes!("descriptors.binpb")));

/// One `.proto` file.
#[derive(Debug)]
struct File {
    name: String,
    bytes: Bytes,
    needs: Vec<String>,
    services: Vec<String>,
    /// Full names of messages, enums, services and methods.
    symbols: Vec<String>,
}

/// Answers one question; the answer is framed.
///
/// # Errors
/// If the question is no such message. Whatever does not exist is an answer, not an error.
pub fn answer(question: Bytes) -> Result<Bytes, Error> {
    let asked = Request::decode(question.clone())
        .map_err(|_| Error::internal("Unable to parse request"))?;
    let response = match asked.question {
        Some(Question::FileByFilename(name)) => files(|file| file.name == name, "file", &name),
        Some(Question::FileContainingSymbol(symbol)) => {
            files(|file| file.symbols.contains(&symbol), "symbol", &symbol)
        }
        Some(Question::FileContainingExtension(extension)) => {
            missing("extension of", &extension.containing_type)
        }
        Some(Question::AllExtensionNumbersOfType(name)) => {
            match FILES.iter().any(|file| file.symbols.contains(&name)) {
                true => Answer::Extensions(Extensions {
                    base_type_name: name,
                    extension_number: Vec::new(),
                }),
                false => missing("type", &name),
            }
        }
        Some(Question::ListServices(_)) => Answer::Services(Services {
            service: FILES
                .iter()
                .flat_map(|file| &file.services)
                .map(|name| Service { name: name.clone() })
                .collect(),
        }),
        None => Answer::Failure(Failure {
            error_code: i32::from(Code::InvalidArg.grpc_status()),
            error_message: "the request asks for nothing".to_owned(),
        }),
    };
    Ok(frame(&Response {
        valid_host: asked.host,
        original_request: Some(question),
        answer: Some(response),
    }))
}

fn files(wanted: impl Fn(&File) -> bool, kind: &str, name: &str) -> Answer {
    let Some(first) = FILES.iter().find(|file| wanted(file)) else {
        return missing(kind, name);
    };
    let mut found = vec![first];
    let mut next = 0;
    while let Some(file) = found.get(next) {
        next += 1;
        let needed = FILES.iter().filter(|it| file.needs.contains(&it.name));
        let new: Vec<_> = needed
            .filter(|it| !found.iter().any(|known| known.name == it.name))
            .collect();
        found.extend(new);
    }
    Answer::Files(Descriptors {
        file_descriptor_proto: found.into_iter().map(|file| file.bytes.clone()).collect(),
    })
}

fn missing(kind: &str, name: &str) -> Answer {
    Answer::Failure(Failure {
        error_code: i32::from(Code::NotFound.grpc_status()),
        error_message: format!("{kind} '{name}' is not known"),
    })
}

fn read(set: &'static [u8]) -> Vec<File> {
    // Shipped with the program and held against the services by tests.
    let set = FileSet::decode(set).unwrap_or_default();
    set.file
        .into_iter()
        .filter_map(|bytes| {
            let file = FileProto::decode(bytes.clone()).ok()?;
            Some(file.into_file(bytes))
        })
        .collect()
}

impl FileProto {
    fn into_file(self, bytes: Bytes) -> File {
        let full = |name: &str| format!("{}.{name}", self.package);
        let services: Vec<String> = self.service.iter().map(|it| full(&it.name)).collect();
        let mut symbols = services.clone();
        for service in &self.service {
            let methods = service.method.iter();
            symbols
                .extend(methods.map(|method| full(&format!("{}.{}", service.name, method.name))));
        }
        symbols.extend(self.enum_type.iter().map(|it| full(&it.name)));
        for message in &self.message_type {
            message.collect(&self.package, &mut symbols);
        }
        File {
            name: self.name,
            bytes,
            needs: self.dependency,
            services,
            symbols,
        }
    }
}

impl MessageProto {
    fn collect(&self, within: &str, symbols: &mut Vec<String>) {
        let full = format!("{within}.{}", self.name);
        symbols.extend(
            self.enum_type
                .iter()
                .map(|it| format!("{full}.{}", it.name)),
        );
        for nested in &self.nested_type {
            nested.collect(&full, symbols);
        }
        symbols.push(full);
    }
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(oneof = "Question", tags = "3, 4, 5, 6, 7")]
    question: Option<Question>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Question {
    #[prost(string, tag = "3")]
    FileByFilename(String),
    #[prost(string, tag = "4")]
    FileContainingSymbol(String),
    #[prost(message, tag = "5")]
    FileContainingExtension(Extension),
    #[prost(string, tag = "6")]
    AllExtensionNumbersOfType(String),
    #[prost(string, tag = "7")]
    ListServices(String),
}

#[derive(Clone, PartialEq, Message)]
struct Extension {
    #[prost(string, tag = "1")]
    containing_type: String,
    #[prost(int32, tag = "2")]
    extension_number: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(string, tag = "1")]
    valid_host: String,
    /// The request as it came: on the wire a message and its bytes are the same.
    #[prost(bytes = "bytes", optional, tag = "2")]
    original_request: Option<Bytes>,
    #[prost(oneof = "Answer", tags = "4, 5, 6, 7")]
    answer: Option<Answer>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Answer {
    #[prost(message, tag = "4")]
    Files(Descriptors),
    #[prost(message, tag = "5")]
    Extensions(Extensions),
    #[prost(message, tag = "6")]
    Services(Services),
    #[prost(message, tag = "7")]
    Failure(Failure),
}

#[derive(Clone, PartialEq, Message)]
struct Descriptors {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file_descriptor_proto: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Extensions {
    #[prost(string, tag = "1")]
    base_type_name: String,
    #[prost(int32, repeated, tag = "2")]
    extension_number: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    service: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Failure {
    #[prost(int32, tag = "1")]
    error_code: i32,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// The parts of descriptors that are looked at.
#[derive(Clone, PartialEq, Message)]
struct FileSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct FileProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    package: String,
    #[prost(string, repeated, tag = "3")]
    dependency: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    message_type: Vec<MessageProto>,
    #[prost(message, repeated, tag = "5")]
    enum_type: Vec<Service>,
    #[prost(message, repeated, tag = "6")]
    service: Vec<ServiceProto>,
}

#[derive(Clone, PartialEq, Message)]
struct MessageProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    nested_type: Vec<MessageProto>,
    #[prost(message, repeated, tag = "4")]
    enum_type: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    method: Vec<Service>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_what_it_needs() {
        assert_eq!(FILES.len(), 5);
        for file in FILES.iter() {
            for need in &file.needs {
                assert!(FILES.iter().any(|it| it.name == *need), "{need}");
            }
        }
        let services: Vec<_> = FILES.iter().flat_map(|file| &file.services).collect();
        assert_eq!(
            services,
            [
                "inference.GRPCInferenceService",
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
            ]
        );
    }
}
