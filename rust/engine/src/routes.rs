// SPDX-License-Identifier: Apache-2.0
//! The one table of routes: which path means what, under which method, in which category, and what it needs
//! of whoever asks.
//!
//! An endpoint is added here, and answered in [`crate::http`]; its gRPC twin is in [`Rpc`]. It does not compile
//! before its category and its need are given (`spec/triton.md` 1.2, 1.10). Only [`guard`] can read a path
//! (`of` is private to this module), and it does so once it has seen who asks: nothing is answered unguarded.

pub mod doors;
mod graphs;
pub mod guard;
mod v1;

use nerite_logic::Error;
use nerite_logic::access::{Category, Need, Scope, Subject};
use nerite_logic::wire::grpc::parse_version;

pub use graphs::{NAMESPACE, Named};
pub use v1::V1;

/// A model in a path, with the version if one is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The model's name, as it stands in the path: Triton does not decode it either.
    pub name: &'a str,
    /// The version's digits.
    pub version: Option<&'a str>,
}

impl Target<'_> {
    /// The version as a number.
    ///
    /// # Errors
    /// If it does not fit into a number.
    pub fn number(&self) -> Result<Option<u64>, Error> {
        self.version.map_or(Ok(None), parse_version)
    }
}

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Route<'a> {
    ServerLive,
    ServerReady,
    ServerMetadata,
    /// The metadata of every model.
    AllMetadata,
    ModelReady(Target<'a>),
    ModelMetadata(Target<'a>),
    ModelConfig(Target<'a>),
    ModelStatistics(Option<Target<'a>>),
    ModelInfer(Target<'a>),
    Generate(Target<'a>),
    GenerateStream(Target<'a>),
    RepositoryIndex,
    /// A load (`true`) or an unload of a model, and the repository if the path names one.
    RepositoryModel(bool, &'a str, Option<&'a str>),
    LogSettings,
    TraceSettings(Option<Target<'a>>),
    SharedMemory(Device, Ask, Option<&'a str>),
    /// KServe's V1 protocol.
    V1(V1<'a>),
    /// The InferenceGraphs that the server runs.
    Graphs,
    /// A graph is asked.
    Graph(Named<'a>),
    /// Whether a graph is there.
    GraphReady(Named<'a>),
    /// A graph is put or deleted.
    GraphChange(Named<'a>),
    /// The description of every endpoint.
    OpenApi,
    /// A page that shows it.
    Docs,
    /// The models of SageMaker's multi-model mode; GET tells, POST loads, DELETE unloads.
    SageMakerModels(Option<doors::Hosted<'a>>),
    /// On a port of its own.
    Metrics,
}

/// Whose shared memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Device {
    System,
    Cuda,
}

/// What is to be done with a region of shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Ask {
    Status,
    Register,
    Unregister,
}

impl<'a> Route<'a> {
    /// The route of a path of the metrics port.
    fn of_metrics(path: &str) -> Option<Self> {
        (path == "/metrics").then_some(Self::Metrics)
    }

    /// The route of a path without its query, if there is one.
    fn of(path: &'a str) -> Option<Self> {
        match path.strip_prefix("/v2") {
            Some(rest) => Self::of_v2(rest),
            None => match path {
                "/openapi.json" => Some(Self::OpenApi),
                "/docs" => Some(Self::Docs),
                _ => V1::of(path).map(Self::V1).or_else(|| Self::of_graphs(path)),
            },
        }
    }

    /// The route of what follows `/v2` in a path.
    fn of_v2(rest: &'a str) -> Option<Self> {
        if rest.is_empty() {
            return Some(Self::ServerMetadata);
        }
        let rest = rest.strip_prefix('/')?;
        match rest {
            "" => Some(Self::ServerMetadata),
            "models" => Some(Self::AllMetadata),
            "health/live" => Some(Self::ServerLive),
            "health/ready" => Some(Self::ServerReady),
            "models/stats" => Some(Self::ModelStatistics(None)),
            "repository/index" => Some(Self::RepositoryIndex),
            "logging" => Some(Self::LogSettings),
            "trace/setting" => Some(Self::TraceSettings(None)),
            _ => match rest.split_once('/')? {
                ("models", model) => Self::of_model(model),
                ("systemsharedmemory", rest) => Self::of_region(Device::System, rest),
                ("cudasharedmemory", rest) => Self::of_region(Device::Cuda, rest),
                // The name of a repository is ignored, as Triton does.
                ("repository", index) if index.strip_suffix("/index").is_some_and(is_name) => {
                    Some(Self::RepositoryIndex)
                }
                ("repository", model) => Self::of_repository(model),
                _ => None,
            },
        }
    }

    fn of_repository(path: &'a str) -> Option<Self> {
        let (repository, rest) = match path.strip_prefix("models/") {
            Some(rest) => (None, rest),
            None => {
                let (repository, rest) = path.split_once("/models/")?;
                (Some(repository).filter(|name| is_name(name)), rest)
            }
        };
        let (model, verb) = rest.split_once('/')?;
        match verb {
            "load" | "unload" if is_name(model) => {
                Some(Self::RepositoryModel(verb == "load", model, repository))
            }
            _ => None,
        }
    }

    fn of_model(path: &'a str) -> Option<Self> {
        let mut segments = path.split('/');
        let name = segments.next().filter(|name| !name.is_empty())?;
        let mut verb = segments.next();
        let mut version = None;
        if verb == Some("versions") {
            version = Some(segments.next().filter(|digits| is_digits(digits))?);
            verb = segments.next();
        }
        let target = Target { name, version };
        if (verb, version) == (Some("trace"), None) {
            let rest = (segments.next(), segments.next());
            return (rest == (Some("setting"), None)).then_some(Self::TraceSettings(Some(target)));
        }
        if segments.next().is_some() {
            return None;
        }
        match verb {
            None => Some(Self::ModelMetadata(target)),
            Some("infer") => Some(Self::ModelInfer(target)),
            Some("generate") => Some(Self::Generate(target)),
            Some("generate_stream") => Some(Self::GenerateStream(target)),
            Some("ready") => Some(Self::ModelReady(target)),
            Some("config") => Some(Self::ModelConfig(target)),
            Some("stats") => Some(Self::ModelStatistics(Some(target))),
            Some(_) => None,
        }
    }

    fn of_region(device: Device, path: &'a str) -> Option<Self> {
        let (region, verb) = match path.strip_prefix("region/") {
            Some(rest) => {
                let (region, verb) = rest.split_once('/')?;
                (Some(region).filter(|name| !name.is_empty())?.into(), verb)
            }
            None => (None, path),
        };
        let ask = match verb {
            "status" => Ask::Status,
            "register" if region.is_some() => Ask::Register,
            "unregister" => Ask::Unregister,
            _ => return None,
        };
        Some(Self::SharedMemory(device, ask, region))
    }

    /// Whether it answers to a method.
    #[must_use]
    pub fn answers_to(&self, method: &str) -> bool {
        match self {
            Self::SageMakerModels(None) => matches!(method, "GET" | "POST"),
            Self::SageMakerModels(Some(_)) => matches!(method, "GET" | "DELETE"),
            Self::Graph(named) => named.is_below() || method == "POST",
            Self::GraphReady(_) => true,
            Self::GraphChange(_) => matches!(method, "PUT" | "DELETE"),
            _ => method == self.method() || (self.is_setting() && method == "POST"),
        }
    }

    /// The method it answers to; settings, which are read with it, are set with POST.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::ModelInfer(_)
            | Self::RepositoryIndex
            | Self::RepositoryModel(..)
            | Self::Generate(_)
            | Self::GenerateStream(_)
            | Self::V1(V1::Predict(_) | V1::Explain(_))
            | Self::Graph(_)
            | Self::SharedMemory(_, Ask::Register | Ask::Unregister, _) => "POST",
            Self::GraphChange(_) => "PUT",
            _ => "GET",
        }
    }

    const fn is_setting(&self) -> bool {
        matches!(self, Self::LogSettings | Self::TraceSettings(_))
    }

    /// The category it belongs to; `None` is never restricted.
    #[must_use]
    pub const fn category(&self) -> Option<Category> {
        Some(match self {
            Self::ServerLive
            | Self::ServerReady
            | Self::ModelReady(_)
            | Self::GraphReady(_)
            | Self::V1(V1::Alive | V1::ModelReady(_)) => Category::Health,
            Self::ServerMetadata
            | Self::AllMetadata
            | Self::ModelMetadata(_)
            | Self::OpenApi
            | Self::Docs
            | Self::Graphs
            | Self::V1(V1::Models) => Category::Metadata,
            Self::ModelConfig(_) => Category::ModelConfig,
            Self::ModelStatistics(_) => Category::Statistics,
            Self::ModelInfer(_)
            | Self::Generate(_)
            | Self::GenerateStream(_)
            | Self::Graph(_)
            | Self::V1(V1::Predict(_) | V1::Explain(_)) => Category::Inference,
            Self::RepositoryIndex
            | Self::RepositoryModel(..)
            | Self::GraphChange(_)
            | Self::SageMakerModels(_) => Category::ModelRepository,
            Self::TraceSettings(_) => Category::Trace,
            Self::LogSettings => Category::Logging,
            Self::SharedMemory(..) => Category::SharedMemory,
            Self::Metrics => return None,
        })
    }

    /// What it needs of whoever asks; `writes` is whether the method is another than GET.
    #[must_use]
    pub const fn need(&self, writes: bool) -> Need {
        match self {
            Self::ServerLive
            | Self::ServerReady
            | Self::ModelReady(_)
            | Self::GraphReady(_)
            // The page is the same for every server: what it shows it has to ask for.
            | Self::Docs
            | Self::V1(V1::Alive | V1::ModelReady(_)) => Need::Nothing,
            Self::ServerMetadata
            | Self::OpenApi
            | Self::Graphs
            | Self::AllMetadata
            | Self::ModelMetadata(_)
            | Self::V1(V1::Models)
            | Self::ModelConfig(_)
            | Self::ModelStatistics(_)
            | Self::RepositoryIndex => Need::AnyKey,
            Self::ModelInfer(_)
            | Self::Generate(_)
            | Self::GenerateStream(_)
            // Which models it asks is looked at once the graph is found.
            | Self::Graph(_)
            | Self::V1(V1::Predict(_) | V1::Explain(_)) => Need::Scope(Scope::Infer),
            Self::RepositoryModel(..) | Self::GraphChange(_) => Need::Scope(Scope::Manage),
            Self::SharedMemory(_, Ask::Status, _) => Need::AnyKey,
            // What is registered is read and written in the server's name.
            Self::SharedMemory(..) => Need::Scope(Scope::Manage),
            Self::LogSettings | Self::TraceSettings(_) | Self::SageMakerModels(_) if writes => {
                Need::Scope(Scope::Manage)
            }
            Self::LogSettings | Self::TraceSettings(_) | Self::SageMakerModels(_) => Need::AnyKey,
            Self::Metrics => Need::Scope(Scope::Metrics),
        }
    }

    /// What it touches.
    #[must_use]
    pub fn subject(&self) -> Subject<'a> {
        match self {
            Self::ModelReady(target)
            | Self::ModelMetadata(target)
            | Self::ModelConfig(target)
            | Self::ModelStatistics(Some(target))
            | Self::ModelInfer(target)
            | Self::Generate(target)
            | Self::GenerateStream(target)
            | Self::V1(V1::ModelReady(target) | V1::Predict(target) | V1::Explain(target))
            | Self::TraceSettings(Some(target)) => Subject::Model(target.name),
            Self::RepositoryModel(_, model, _) => Subject::Model(model),
            Self::SageMakerModels(Some(hosted)) => Subject::Model(hosted.model()),
            Self::ServerLive
            | Self::ServerReady
            | Self::ServerMetadata
            | Self::AllMetadata
            | Self::OpenApi
            | Self::Docs
            | Self::Graphs
            | Self::Graph(_)
            | Self::GraphReady(_)
            | Self::GraphChange(_)
            | Self::V1(V1::Alive | V1::Models)
            | Self::ModelStatistics(None)
            | Self::RepositoryIndex
            | Self::LogSettings
            | Self::SharedMemory(..)
            | Self::TraceSettings(None)
            | Self::SageMakerModels(None)
            | Self::Metrics => Subject::Server,
        }
    }
}

fn is_name(segment: &str) -> bool {
    !segment.is_empty() && !segment.contains('/')
}

fn is_digits(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a gRPC method asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Rpc {
    ServerLive,
    ServerReady,
    ModelReady,
    ServerMetadata,
    ModelMetadata,
    ModelConfig,
    ModelStatistics,
    ModelInfer,
    ModelStreamInfer,
    RepositoryIndex,
    RepositoryModelLoad,
    RepositoryModelUnload,
    HealthCheck,
    HealthWatch,
    Reflection,
    LogSettings,
    TraceSetting,
    SharedMemory(Device, Ask),
}

impl Rpc {
    /// The call of a request's path.
    fn of(path: &str) -> Option<Self> {
        if let Some(method) = path.strip_prefix("/inference.GRPCInferenceService/") {
            return match method {
                "ModelInfer" => Some(Self::ModelInfer),
                "ModelStreamInfer" => Some(Self::ModelStreamInfer),
                "ServerLive" => Some(Self::ServerLive),
                "ServerReady" => Some(Self::ServerReady),
                "ModelReady" => Some(Self::ModelReady),
                "ServerMetadata" => Some(Self::ServerMetadata),
                "ModelMetadata" => Some(Self::ModelMetadata),
                "ModelConfig" => Some(Self::ModelConfig),
                "ModelStatistics" => Some(Self::ModelStatistics),
                "RepositoryIndex" => Some(Self::RepositoryIndex),
                "RepositoryModelLoad" => Some(Self::RepositoryModelLoad),
                "RepositoryModelUnload" => Some(Self::RepositoryModelUnload),
                "LogSettings" => Some(Self::LogSettings),
                "TraceSetting" => Some(Self::TraceSetting),
                _ => Self::of_region(method),
            };
        }
        match path {
            "/grpc.health.v1.Health/Check" => Some(Self::HealthCheck),
            "/grpc.health.v1.Health/Watch" => Some(Self::HealthWatch),
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => {
                Some(Self::Reflection)
            }
            _ => None,
        }
    }

    fn of_region(method: &str) -> Option<Self> {
        let (device, rest) = match method.strip_prefix("System") {
            Some(rest) => (Device::System, rest),
            None => (Device::Cuda, method.strip_prefix("Cuda")?),
        };
        let ask = match rest.strip_prefix("SharedMemory")? {
            "Status" => Ask::Status,
            "Register" => Ask::Register,
            "Unregister" => Ask::Unregister,
            _ => return None,
        };
        Some(Self::SharedMemory(device, ask))
    }

    /// The category it belongs to.
    #[must_use]
    pub const fn category(self) -> Category {
        match self {
            Self::ServerLive
            | Self::ServerReady
            | Self::ModelReady
            | Self::HealthCheck
            | Self::HealthWatch => Category::Health,
            Self::ServerMetadata | Self::ModelMetadata | Self::Reflection => Category::Metadata,
            Self::ModelConfig => Category::ModelConfig,
            Self::ModelStatistics => Category::Statistics,
            Self::ModelInfer | Self::ModelStreamInfer => Category::Inference,
            Self::RepositoryIndex | Self::RepositoryModelLoad | Self::RepositoryModelUnload => {
                Category::ModelRepository
            }
            Self::TraceSetting => Category::Trace,
            Self::LogSettings => Category::Logging,
            Self::SharedMemory(..) => Category::SharedMemory,
        }
    }

    /// What it needs of whoever asks; `writes` is whether its message sets something.
    #[must_use]
    pub const fn need(self, writes: bool) -> Need {
        match self {
            Self::ServerLive
            | Self::ServerReady
            | Self::ModelReady
            | Self::HealthCheck
            | Self::HealthWatch => Need::Nothing,
            Self::ServerMetadata
            | Self::ModelMetadata
            | Self::ModelConfig
            | Self::ModelStatistics
            | Self::RepositoryIndex
            | Self::Reflection => Need::AnyKey,
            Self::ModelInfer | Self::ModelStreamInfer => Need::Scope(Scope::Infer),
            Self::RepositoryModelLoad | Self::RepositoryModelUnload => Need::Scope(Scope::Manage),
            Self::SharedMemory(_, Ask::Status) => Need::AnyKey,
            Self::SharedMemory(..) => Need::Scope(Scope::Manage),
            Self::LogSettings | Self::TraceSetting if writes => Need::Scope(Scope::Manage),
            Self::LogSettings | Self::TraceSetting => Need::AnyKey,
        }
    }

    /// The field of its message that names a model.
    const fn model_field(self) -> Option<u32> {
        match self {
            Self::ModelReady
            | Self::ModelMetadata
            | Self::ModelConfig
            | Self::ModelStatistics
            | Self::ModelInfer
            | Self::ModelStreamInfer => Some(1),
            Self::TraceSetting | Self::RepositoryModelLoad | Self::RepositoryModelUnload => Some(2),
            Self::ServerLive
            | Self::ServerReady
            | Self::ServerMetadata
            | Self::RepositoryIndex
            | Self::HealthCheck
            | Self::HealthWatch
            | Self::Reflection
            | Self::SharedMemory(..)
            | Self::LogSettings => None,
        }
    }
}

#[cfg(test)]
mod tests;
