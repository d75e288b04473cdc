// SPDX-License-Identifier: Apache-2.0
//! What the Go library says of the corners of its paths; the conditions that KServe's own router was asked
//! are played over real sockets by `tests/kserve/test_graph_vectors.py`.

use super::{Document, holds};

const BODY: &str = r#"{"name":{"first":"Tom","last":"A"},"age":37,"none":null,"no":false,"list":[],"fav.movie":"D","friends":[{"first":"Dale","age":44,"nets":["ig","fb"]},{"first":"Jane","age":47,"nets":["tw"]}],"a":{"b":1},"a":{"c":2},"text":"[1]"}"#;

#[rustfmt::skip]
const HOLD: &[&str] = &[
    r#"name.first"#,
    r#"zz|@keys"#,
    r#"zz|@tostr"#,
    r#"zz|@values"#,
    r#"name|@values|1"#,
    r#"none"#,
    r#"none|@this"#,
    r#"no"#,
    r#"list.#"#,
    r#"a.b"#,
    r#"a.c"#,
    r#"fav\.movie"#,
    r#"n*.first"#,
    r#"?ame"#,
    r#"friends.#"#,
    r#"friends.#.age"#,
    r#"friends.#.age|1"#,
    r#"friends.1.first"#,
    r#"friends.#(age>45).first"#,
    r#"friends.#(age>45)#.first|0"#,
    r#"friends.#(age>99)#"#,
    r#"friends.#(age>99)#.#"#,
    r#"friends.#(first%"D*")"#,
    r#"friends.#(first!%"D*").age"#,
    r#"friends.#(nets.#(=="tw"))"#,
    r#"friends.#(nets.#(=="zz"))#"#,
    r#"friends.#(age==~true)"#,
    r#"friends.#(zz==~null)"#,
    r#"friends.#(age)#|#"#,
    r#"friends|@reverse|0.first"#,
    r#"friends.@reverse.0"#,
    r#"name.@keys"#,
    r#"@this"#,
    r#"@dig:first"#,
    r#"@dig:first|1"#,
    r#"{zz}"#,
    r#"{"x":age}.x"#,
    r#"[age,name.first].1"#,
    r#"!true"#,
    r#"!{"a":1}.a"#,
    r#"!"x""#,
    r#"..#"#,
    r#"..0.age"#,
    r#"text|@fromstr|0"#,
    r#"age|@fromstr"#,
    r#"@flatten"#,
    r#"friends.#.nets|@flatten|2"#,
    r#"friends|@join.first"#,
];

#[rustfmt::skip]
const DO_NOT_HOLD: &[&str] = &[
    r#"name.zz"#,
    r#"zz.y|@keys"#,
    r#"zz|@this"#,
    r#"list.0"#,
    r#"age.#"#,
    r#"a.d"#,
    r#"fav.movie"#,
    r#"z*"#,
    r#"friends.#.zz|0"#,
    r#"friends.#.age|2"#,
    r#"friends.2"#,
    r#"friends.#(age>99)"#,
    r#"friends.#(age>99)#|0"#,
    r#"friends.#(first%"Z?")"#,
    r#"friends.#(nets.#(=="zz"))"#,
    r#"friends.#(zz==~*)"#,
    r#"friends.#(age"#,
    r#"friends.#()"#,
    r#"name|@keys|2"#,
    r#"@nope"#,
    r#"@dig:zz|0"#,
    r#"{zz}.zz"#,
    r#"[zz].0"#,
    r#"[age"#,
    r#"!zz"#,
    r#"..1"#,
    r#"friends.#.nets|@flatten|3"#,
    r#"name|@group|0"#,
    r#".age"#,
    r#"age."#,
    r#""#,
    r#" "#,
];

#[test]
fn corners_of_paths_are_as_in_go() {
    let body = Document::parse(BODY.as_bytes()).unwrap();
    let wrong: Vec<_> = HOLD
        .iter()
        .filter(|path| !holds(&body, path))
        .chain(DO_NOT_HOLD.iter().filter(|path| holds(&body, path)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
