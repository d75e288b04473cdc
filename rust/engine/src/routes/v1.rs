// SPDX-License-Identifier: Apache-2.0
//! The paths of KServe's V1 protocol.

use super::{Target, is_digits};

/// What a path of KServe's V1 protocol asks for (`spec/kserve.md` 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum V1<'a> {
    Alive,
    Models,
    ModelReady(Target<'a>),
    Predict(Target<'a>),
    Explain(Target<'a>),
}

impl<'a> V1<'a> {
    /// The route of a path, if there is one.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        if path == "/" {
            return Some(Self::Alive);
        }
        let rest = path.strip_prefix("/v1/models")?;
        if rest.is_empty() {
            return Some(Self::Models);
        }
        let model = rest.strip_prefix('/')?;
        for (verb, made) in [
            ("predict", Self::Predict as fn(Target<'a>) -> Self),
            ("explain", Self::Explain),
        ] {
            let verbless = model.strip_suffix(verb);
            // Some clients encode the colon.
            let colon = |path: &'a str| {
                let ends = [":", "%3A", "%3a"].into_iter();
                ends.filter_map(|end| path.strip_suffix(end)).next()
            };
            if let Some(model) = verbless.and_then(colon) {
                return Self::target(model).map(made);
            }
        }
        Self::target(model).map(Self::ModelReady)
    }

    /// `m`, or `m/versions/3` as TensorFlow Serving has it.
    fn target(path: &'a str) -> Option<Target<'a>> {
        let (name, version) = match path.split_once('/') {
            None => (path, None),
            Some((name, rest)) => {
                let digits = rest.strip_prefix("versions/")?;
                (
                    name,
                    Some(digits).filter(|digits| is_digits(digits))?.into(),
                )
            }
        };
        (!name.is_empty()).then_some(Target { name, version })
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
        let (m, third) = (target("m", None), target("m", Some("3")));
        for (path, route) in [
            ("/", Some(V1::Alive)),
            ("/v1/models", Some(V1::Models)),
            ("/v1/models/", None),
            ("/v1/models/m", Some(V1::ModelReady(m))),
            ("/v1/models/m:predict", Some(V1::Predict(m))),
            ("/v1/models/m%3Apredict", Some(V1::Predict(m))),
            ("/v1/models/m%3aexplain", Some(V1::Explain(m))),
            ("/v1/models/m/versions/3", Some(V1::ModelReady(third))),
            ("/v1/models/m/versions/3:predict", Some(V1::Predict(third))),
            ("/v1/models/m/versions/x:predict", None),
            ("/v1/models/m/versions/", None),
            ("/v1/models/m/metadata", None),
            ("/v1/models/:predict", None),
            (
                "/v1/models/predict",
                Some(V1::ModelReady(target("predict", None))),
            ),
            ("/v1/models/m:predict/", None),
            ("/v1/model", None),
            ("/v1", None),
            ("", None),
        ] {
            assert_eq!(V1::of(path), route, "{path}");
        }
        let other = "/v1/models/m:transform";
        assert_eq!(
            V1::of(other),
            Some(V1::ModelReady(target("m:transform", None)))
        );
    }
}
