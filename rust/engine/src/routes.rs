// SPDX-License-Identifier: Apache-2.0
//! The one table of routes: which path means what, under which method, in which category.
//!
//! An endpoint is added here, and answered in [`crate::http`]; its gRPC twin is in [`Rpc`]. The category is what
//! restrictions and authorisation are written in (`spec/triton.md` 1.2, 1.10).

use nerite_logic::Error;
use nerite_logic::wire::grpc::parse_version;

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
    ModelReady(Target<'a>),
    ModelMetadata(Target<'a>),
    ModelConfig(Target<'a>),
    ModelStatistics(Option<Target<'a>>),
    ModelInfer(Target<'a>),
    RepositoryIndex,
    LogSettings,
    TraceSettings(Option<Target<'a>>),
}

/// The group of endpoints that a restriction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Category {
    Health,
    Metadata,
    Inference,
    ModelConfig,
    ModelRepository,
    Statistics,
    Trace,
    Logging,
}

impl<'a> Route<'a> {
    /// The route of a path without its query, if there is one.
    #[must_use]
    pub fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2")?;
        if rest.is_empty() {
            return Some(Self::ServerMetadata);
        }
        let rest = rest.strip_prefix('/')?;
        match rest {
            "health/live" => Some(Self::ServerLive),
            "health/ready" => Some(Self::ServerReady),
            "models/stats" => Some(Self::ModelStatistics(None)),
            "repository/index" => Some(Self::RepositoryIndex),
            "logging" => Some(Self::LogSettings),
            "trace/setting" => Some(Self::TraceSettings(None)),
            _ => match rest.split_once('/')? {
                ("models", model) => Self::of_model(model),
                // The name of a repository is ignored, as Triton does.
                ("repository", index) if index.strip_suffix("/index").is_some_and(is_name) => {
                    Some(Self::RepositoryIndex)
                }
                _ => None,
            },
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
            Some("ready") => Some(Self::ModelReady(target)),
            Some("config") => Some(Self::ModelConfig(target)),
            Some("stats") => Some(Self::ModelStatistics(Some(target))),
            Some(_) => None,
        }
    }

    /// Whether it answers to a method.
    #[must_use]
    pub fn answers_to(&self, method: &str) -> bool {
        let is_setting = matches!(self, Self::LogSettings | Self::TraceSettings(_));
        method == self.method() || (is_setting && method == "POST")
    }

    /// The method it answers to; settings, which are read with it, are set with POST.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::ModelInfer(_) | Self::RepositoryIndex => "POST",
            _ => "GET",
        }
    }

    /// The category it belongs to.
    #[must_use]
    pub const fn category(&self) -> Category {
        match self {
            Self::ServerLive | Self::ServerReady | Self::ModelReady(_) => Category::Health,
            Self::ServerMetadata | Self::ModelMetadata(_) => Category::Metadata,
            Self::ModelConfig(_) => Category::ModelConfig,
            Self::ModelStatistics(_) => Category::Statistics,
            Self::ModelInfer(_) => Category::Inference,
            Self::RepositoryIndex => Category::ModelRepository,
            Self::TraceSettings(_) => Category::Trace,
            Self::LogSettings => Category::Logging,
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
    RepositoryIndex,
    HealthCheck,
    HealthWatch,
    Reflection,
    LogSettings,
    TraceSetting,
}

impl Rpc {
    /// The call of a request's path.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        if let Some(method) = path.strip_prefix("/inference.GRPCInferenceService/") {
            return match method {
                "ModelInfer" => Some(Self::ModelInfer),
                "ServerLive" => Some(Self::ServerLive),
                "ServerReady" => Some(Self::ServerReady),
                "ModelReady" => Some(Self::ModelReady),
                "ServerMetadata" => Some(Self::ServerMetadata),
                "ModelMetadata" => Some(Self::ModelMetadata),
                "ModelConfig" => Some(Self::ModelConfig),
                "ModelStatistics" => Some(Self::ModelStatistics),
                "RepositoryIndex" => Some(Self::RepositoryIndex),
                "LogSettings" => Some(Self::LogSettings),
                "TraceSetting" => Some(Self::TraceSetting),
                _ => None,
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
            Self::ModelInfer => Category::Inference,
            Self::RepositoryIndex => Category::ModelRepository,
            Self::TraceSetting => Category::Trace,
            Self::LogSettings => Category::Logging,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &'static str, version: Option<&'static str>) -> Target<'static> {
        Target { name, version }
    }

    #[test]
    fn every_path_means_one_thing() {
        let table = [
            ("/v2", Some(Route::ServerMetadata)),
            ("/v2/", None),
            ("/v2/health/live", Some(Route::ServerLive)),
            ("/v2/health/ready", Some(Route::ServerReady)),
            ("/v2/health/ready/", None),
            ("/v2/models/stats", Some(Route::ModelStatistics(None))),
            (
                "/v2/models/m",
                Some(Route::ModelMetadata(target("m", None))),
            ),
            ("/v2/models/m/", None),
            ("/v2/models//infer", None),
            (
                "/v2/models/a%20b",
                Some(Route::ModelMetadata(target("a%20b", None))),
            ),
            (
                "/v2/models/m/infer",
                Some(Route::ModelInfer(target("m", None))),
            ),
            (
                "/v2/models/m/versions/01/infer",
                Some(Route::ModelInfer(target("m", Some("01")))),
            ),
            (
                "/v2/models/m/versions/3",
                Some(Route::ModelMetadata(target("m", Some("3")))),
            ),
            ("/v2/models/m/versions/3/", None),
            ("/v2/models/m/versions/x/infer", None),
            ("/v2/models/m/versions//infer", None),
            ("/v2/models/m/versions", None),
            (
                "/v2/models/m/config",
                Some(Route::ModelConfig(target("m", None))),
            ),
            (
                "/v2/models/m/stats",
                Some(Route::ModelStatistics(Some(target("m", None)))),
            ),
            ("/v2/models/m/infer/more", None),
            ("/v2/repository/index", Some(Route::RepositoryIndex)),
            ("/v2/logging", Some(Route::LogSettings)),
            ("/v2/logging/", None),
            ("/v2/trace/setting", Some(Route::TraceSettings(None))),
            (
                "/v2/models/m/trace/setting",
                Some(Route::TraceSettings(Some(target("m", None)))),
            ),
            ("/v2/models/m/versions/1/trace/setting", None),
            ("/v2/models/m/trace", None),
            ("/v2/models/m/trace/setting/more", None),
            ("/v2/repository/r/index", Some(Route::RepositoryIndex)),
            ("/v2/repository//index", None),
            ("/v1/models/m", None),
            ("", None),
        ];
        for (path, route) in table {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
