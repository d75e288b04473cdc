// SPDX-License-Identifier: Apache-2.0
//! Definitions of graphs, and bodies on their way through one.

use bytes::Bytes;
use nerite_logic::gateway::graph::{Answer, Graph, Stopped};
use nerite_logic::gateway::payload::Payload;

use crate::hunt::hunt;
use crate::memory::most;

const DEFINITIONS: [&str; 3] = [
    r#"{"nodes":{"root":{"routerType":"Sequence","steps":[{"serviceUrl":"/v2/models/m/infer"},
        {"serviceUrl":"http://a:1/b?c#d","data":"$response","mapPredictionsToInstances":true,
        "condition":"a.0.#(b==\"c\").d|@this","dependency":"Hard"}]}}}"#,
    r#"{"nodes":{"root":{"routerType":"Switch","steps":[{"nodeName":"s","condition":"instances.#"}]},
        "s":{"routerType":"Splitter","steps":[{"name":"x","weight":100,"serviceUrl":"/graphs/n/g"}]}}}"#,
    r#"{"nodes":{"root":{"routerType":"Ensemble","steps":[{},{"name":"0"}]}},"timeoutSecs":1.5,
        "stepTimeoutSecs":null,"propagateHeaders":["^X-"]}"#,
];
const BODIES: [&str; 3] = [
    r#"{"predictions":[[1.0,2],{"a":null}]}"#,
    r#"{"id":"7","outputs":[{"name":"Y","shape":[1],"datatype":"FP32","data":[1]}]}"#,
    "null",
];
const SPOILERS: [&[u8]; 16] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"null",
    b"-1",
    b"1e400",
    b"\"steps\":[",
    b"\"nodeName\":\"root\",",
    b"\"serviceUrl\":\"//x\",",
    b"\"condition\":\"#(#(#(\",",
    b"\xff",
    b"[[[[[[[[[[[[[[[[",
];
/// Bytes that a byte of a definition may cost, and what every definition may.
const PER_BYTE: usize = 160;
const ANY: usize = 32 << 10;

#[test]
fn any_definition_is_a_graph_or_refused() {
    let seeds = DEFINITIONS.map(|text| text.as_bytes().to_vec());
    let bodies = BODIES.map(|text| Bytes::from_static(text.as_bytes()));
    hunt("graphs", seeds.to_vec(), &SPOILERS, |written, random| {
        let (read, bytes) = most(|| {
            let value = serde_json::from_slice(written).map_err(|why| why.to_string())?;
            Graph::from_value(value).map_err(|why| why.message.into_owned())
        });
        assert!(
            bytes <= PER_BYTE * written.len() + ANY,
            "{bytes} bytes for {}",
            written.len()
        );
        let graph = match read {
            Ok(graph) => graph,
            Err(why) => return why,
        };
        let body = random.one(&bodies).clone();
        let answer = Answer {
            status: 200,
            payload: Payload {
                json_length: (random.below(4) == 0).then(|| random.below(body.len() + 2)),
                body,
            },
        };
        let mut told = String::new();
        for node in &graph.nodes {
            told += match node.choose(&answer.payload) {
                Ok(_) => "+",
                Err(Stopped::NoMatch) => "0",
                Err(Stopped::Cause(_)) => "-",
            };
            for step in &node.steps {
                let before = step.before(Some(&answer));
                let input = step.input(&answer.payload, Some(&answer));
                told += &format!("{before:?} {} ", input.json() == answer.payload.json());
            }
        }
        told
    });
}
