// SPDX-License-Identifier: Apache-2.0
//! Routes, shares and hops.

use super::failure::Kind;
use super::headers::{host_of, named_by_connection};
use super::table::Table;
use super::weights::Shares;

const TABLE: &str = r#"{"services": [
    {"name": "iris", "namespace": "default", "hosts": ["iris-default.example.com", "iris.default"],
     "entry": "transformer", "explain": "explainer", "components": [
        {"name": "predictor", "hosts": ["iris-predictor.default"],
         "revisions": [{"weight": 100, "replicas": [{"http": "127.0.0.1:1"}]}]},
        {"name": "transformer", "hosts": ["iris-transformer.default"]},
        {"name": "explainer"}]},
    {"name": "other", "namespace": "prod", "hosts": ["other-prod.example.com"],
     "entry": "predictor", "components": [{"name": "predictor"}]}]}"#;

#[test]
fn hosts_lead_to_the_entry_and_component_hosts_past_it() {
    let table = Table::from_json(TABLE).unwrap();
    let place = |host, path| table.find(host, path).unwrap().place;
    assert_eq!(place("iris.default", "/v1/models/iris:predict"), (0, 1));
    assert_eq!(place("IRIS-default.Example.com", "/v2"), (0, 1));
    assert_eq!(place("iris-predictor.default", "/v2"), (0, 0));
    assert_eq!(place("other-prod.example.com", "/"), (1, 0));
}

#[test]
fn explanations_go_to_the_explainer_unless_a_component_is_asked_itself() {
    let table = Table::from_json(TABLE).unwrap();
    let place = |host| table.find(host, "/v1/models/iris:explain").unwrap().place;
    assert_eq!(place("iris.default"), (0, 2));
    assert_eq!(place("iris-predictor.default"), (0, 0));
    assert_eq!(place("other-prod.example.com"), (1, 0));
}

#[test]
fn paths_lead_by_namespace_and_name_and_lose_their_prefix() {
    let table = Table::from_json(TABLE).unwrap();
    let found = table
        .find("nowhere", "/serving/prod/other/v2/models/x/infer")
        .unwrap();
    assert_eq!(found.place, (1, 0));
    assert_eq!(found.path, "/v2/models/x/infer");
    assert_eq!(found.prefix, "/serving/prod/other");
    assert_eq!(table.find("", "/serving/prod/other").unwrap().path, "/");
    let lost = table.find("", "/serving/prod/nobody/v2").unwrap_err();
    assert_eq!(lost.kind, Kind::NotFound);
    assert!(lost.text.contains("'/serving/prod/nobody'") && lost.text.contains("prod/other"));
}

#[test]
fn an_unknown_host_is_told_which_there_are_unless_there_is_a_default() {
    let table = Table::from_json(TABLE).unwrap();
    let lost = table.find("localhost", "/v2").unwrap_err();
    assert!(lost.text.contains("'localhost'") && lost.text.contains("iris-default.example.com"));
    let with_default = TABLE.replacen('{', r#"{"default": 1, "#, 1);
    let table = Table::from_json(&with_default).unwrap();
    assert_eq!(table.find("localhost", "/v2").unwrap().place, (1, 0));
}

#[test]
fn a_table_that_contradicts_itself_is_refused_by_name() {
    for (from, to, told) in [
        ("iris.default\"", "other-prod.example.com\"", "is twice in"),
        ("127.0.0.1:1", "127.0.0.1", "host:port"),
        (
            "\"entry\": \"transformer\"",
            "\"entry\": \"x\"",
            "no component 'x'",
        ),
        ("\"weight\"", "\"wait\"", "wait"),
        (
            "{\"services\"",
            "{\"default\": 2, \"services\"",
            "no service number 2",
        ),
    ] {
        let error = Table::from_json(&TABLE.replace(from, to)).unwrap_err();
        assert!(error.message.contains(told), "{}", error.message);
    }
}

#[test]
fn shares_are_exact_over_each_round_and_spread_out() {
    let mut shares = Shares::new([10, 0, 30, 60]);
    for _ in 0..3 {
        let mut counts = [0; 4];
        let mut last = usize::MAX;
        let mut longest = 0;
        let mut run = 0;
        for _ in 0..100 {
            let turn = shares.turn().unwrap();
            counts[turn] += 1;
            run = if turn == last { run + 1 } else { 1 };
            longest = longest.max(run);
            last = turn;
        }
        assert_eq!(counts, [10, 0, 30, 60]);
        assert!(longest <= 3);
    }
    assert_eq!(Shares::new([0, 0]).turn(), None);
}

#[test]
fn hosts_lose_their_port_and_connection_names_headers() {
    assert_eq!(host_of("iris.default:8080"), "iris.default");
    assert_eq!(host_of("[::1]:80"), "::1");
    assert_eq!(host_of("user@iris"), "iris");
    assert_eq!(
        named_by_connection("close, X-This ,").collect::<Vec<_>>(),
        ["close", "X-This"]
    );
}
