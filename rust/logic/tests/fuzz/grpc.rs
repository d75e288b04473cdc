// SPDX-License-Identifier: Apache-2.0
//! Infer requests over gRPC: the protobuf message, and the frames that messages come in.

use bytes::Bytes;
use nerite_logic::check::check;
use nerite_logic::message::{
    Control, CorrelationId, Form, InferRequest, Parameter, RequestedOutput, Tensor,
};
use nerite_logic::spec::ModelSpec;
use nerite_logic::wire::grpc::{Unframed, parse_infer, parse_version, unframe};
use nerite_logic::{DataType, Error};

use crate::hunt::hunt;
use crate::memory::most;
use crate::protobuf::{Writer, encode, typed};
use crate::seeds;

/// Tags, lengths that lie, varints without end, groups, and fields of the request.
const SPOILERS: [&[u8]; 22] = [
    b"\x0a",
    b"\x12",
    b"\x1a",
    b"\x22",
    b"\x2a",
    b"\x32",
    b"\x3a",
    b"\x2a\0",
    b"\x3a\0",
    b"\x32\0",
    b"\x22\x04\x0a\0\x12\0",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
    b"\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b",
    b"\x0c\x0c",
    b"\x42\x02ab",
    b"\x2a\x04\x2a\x02\x10\x01",
    b"\x10\x01",
    b"\x42\0",
    b"INT32",
    b"BYTES",
];
const PER_BYTE: usize = 40;
/// 1024 tensors of two bytes each are the most that a message may list.
const ANY: usize = 512 << 10;

fn tensor(datatype: DataType, shape: &[i64], data: Vec<u8>) -> Tensor {
    Tensor {
        name: "INPUT0".into(),
        datatype,
        shape: shape.iter().copied().collect(),
        data: data.into(),
    }
}

fn full_request(datatype: DataType) -> InferRequest {
    let data = datatype.size().map_or_else(
        || b"\x02\0\0\0ab\0\0\0\0".to_vec(),
        |size| vec![1; 2 * size],
    );
    InferRequest {
        id: "r1".into(),
        control: Control {
            correlation_id: CorrelationId::Number(7),
            sequence_start: true,
            priority: 2,
            timeout_us: 9,
            ..Control::default()
        },
        parameters: vec![
            ("i".into(), Parameter::Int(-3)),
            ("b".into(), Parameter::Bool(true)),
            ("s".into(), Parameter::String("text".into())),
            ("d".into(), Parameter::Double(0.5)),
        ],
        inputs: [tensor(datatype, &[1, 2], data)].into_iter().collect(),
        outputs: [RequestedOutput {
            name: "OUTPUT0".into(),
            form: Form::Binary,
            classification: 3,
            window: None,
        }]
        .into_iter()
        .collect(),
        default_form: Form::Binary,
        ..InferRequest::default()
    }
}

fn messages() -> Vec<Vec<u8>> {
    let mut found: Vec<_> = DataType::ALL
        .into_iter()
        .map(|datatype| encode("m", &full_request(datatype)))
        .collect();
    for (datatype, field) in [
        (DataType::Bool, 1),
        (DataType::Int8, 2),
        (DataType::Int64, 3),
        (DataType::Uint16, 4),
        (DataType::Uint64, 5),
    ] {
        for packed in [true, false] {
            found.push(typed(
                &tensor(datatype, &[1, 3], Vec::new()),
                field,
                &[0, 1, 1],
                packed,
            ));
        }
    }
    let mut strings = Writer::default();
    strings.inner(5, |input| {
        input.block(1, b"INPUT0");
        input.block(2, b"BYTES");
        input.inner(3, |dims| {
            dims.varint(1);
            dims.varint(2)
        });
        input.inner(5, |contents| {
            contents.block(8, b"ab");
            contents.block(8, b"")
        });
    });
    found.push(strings.0);
    found
}

fn read(message: &Bytes, spec: &ModelSpec) -> Result<InferRequest, Error> {
    let (read, bytes) = most(|| {
        let mut request = parse_infer(message.clone(), spec)?;
        // Shared memory is the engine's, and is not written again.
        request.windows.clear();
        request.outputs.iter_mut().for_each(|it| it.window = None);
        check(&mut request, spec).map(|_| request)
    });
    assert!(
        bytes <= PER_BYTE * message.len() + ANY,
        "{bytes} bytes for {}",
        message.len()
    );
    read
}

#[test]
fn any_message_is_a_request_or_refused() {
    let models: Vec<_> = DataType::ALL
        .into_iter()
        .map(|datatype| seeds::model(datatype, true))
        .collect();
    hunt("messages", messages(), &SPOILERS, |bytes, random| {
        let spec = random.one(&models);
        match read(&Bytes::copy_from_slice(bytes), spec) {
            Ok(request) => {
                // Numbers of a sequence are signed there; the rest comes back as it was.
                let again = read(&Bytes::from(encode("m", &request)), spec).unwrap();
                assert_eq!(format!("{again:?}"), format!("{request:?}"));
                format!(
                    "{:?} {} {}",
                    spec.inputs[0].datatype,
                    request.parameters.len(),
                    request.outputs.len()
                )
            }
            Err(error) => error.message.into_owned(),
        }
    });
}

#[test]
fn every_request_comes_back_as_it_was_sent() {
    for datatype in DataType::ALL {
        let request = full_request(datatype);
        let message = Bytes::from(encode("m", &request));
        assert_eq!(
            parse_infer(message, &seeds::model(datatype, true)).unwrap(),
            request
        );
    }
}

/// Elements sent one by one once cost 32 bytes of notes each, for two bytes of message.
#[test]
fn elements_that_come_one_by_one_cost_no_more_than_their_tensor() {
    const COUNT: usize = 100_000;
    let shape = [1, i64::try_from(COUNT).unwrap()];
    for (datatype, field) in [
        (DataType::Bool, 1),
        (DataType::Int32, 2),
        (DataType::Int64, 3),
        (DataType::Uint8, 4),
        (DataType::Uint64, 5),
    ] {
        let one_by_one = typed(
            &tensor(datatype, &shape, Vec::new()),
            field,
            &vec![1; COUNT],
            false,
        );
        let spec = seeds::model(datatype, true);
        let (request, bytes) = most(|| parse_infer(Bytes::from(one_by_one.clone()), &spec));
        let size = datatype.size().unwrap() * COUNT;
        assert_eq!(request.unwrap().inputs[0].data.len(), size);
        assert!(
            bytes < size + one_by_one.len() + 4096,
            "{datatype:?}: {bytes} bytes"
        );
    }
    let mut strings = Writer::default();
    strings.inner(5, |input| {
        input.block(2, b"BYTES");
        input.inner(5, |contents| {
            (0..COUNT).for_each(|_| contents.block(8, b""))
        });
    });
    let (request, bytes) =
        most(|| parse_infer(Bytes::from(strings.0), &seeds::model(DataType::Bytes, true)));
    assert_eq!(request.unwrap().inputs[0].data.len(), 4 * COUNT);
    assert!(bytes < 6 * COUNT + 4096, "BYTES: {bytes} bytes");
}

#[test]
fn frames_are_the_same_however_they_arrive() {
    let seeds = vec![
        b"\0\0\0\0\x02ab\0\0\0\0\0".to_vec(),
        b"\x01\0\0\0\0".to_vec(),
        b"\0\xff\xff\xff\xff".to_vec(),
    ];
    hunt(
        "frames",
        seeds,
        &[
            b"\0\0\0\0",
            b"\0\0\0\x01\0",
            b"\xff\xff\xff\xff",
            b"\0\0\0\0\x05hello",
        ],
        |bytes, random| {
            let limit = *random.one(&[0, 2, 100, usize::MAX]);
            let cut = random.below(bytes.len() + 1);
            let whole = taken(&[bytes], limit);
            assert_eq!(whole, taken(&[&bytes[..cut], &bytes[cut..]], limit));
            let told = match whole.1 {
                Unframed::Incomplete { missing: 5 } => "all of it",
                Unframed::Incomplete { .. } => "a part",
                Unframed::Refused(_) => "refused",
                Unframed::Message(_) | Unframed::Compressed(_) => "a message",
            };
            format!("{told} after {}", "one ".repeat(whole.0.len().min(4)))
        },
    );
}

/// The messages of a stream that arrives in pieces, and what the last look told.
fn taken(pieces: &[&[u8]], limit: usize) -> (Vec<Bytes>, Unframed) {
    let (mut messages, mut held) = (Vec::new(), Vec::new());
    let mut last = Unframed::Incomplete { missing: 5 };
    for piece in pieces {
        held.extend_from_slice(piece);
        let mut data = Bytes::from(std::mem::take(&mut held));
        loop {
            let (told, bytes) = most(|| unframe(&mut data, limit));
            assert!(
                bytes < 256,
                "a length that is only claimed reserved {bytes} bytes"
            );
            last = told;
            match &last {
                Unframed::Message(message) | Unframed::Compressed(message) => {
                    assert!(message.len() <= limit);
                    messages.push(message.clone());
                }
                Unframed::Refused(refusal) => {
                    assert!(refusal.grpc_status() > 0 && !refusal.message().is_empty());
                    return (messages, last);
                }
                Unframed::Incomplete { missing } => {
                    assert!(*missing > 0);
                    break;
                }
            }
        }
        held = data.to_vec();
    }
    (messages, last)
}

#[test]
fn any_version_is_a_number_or_refused() {
    let seeds = ["", "1", "-1", " 1", "1.0", "1x", "+1"].map(|seed| seed.as_bytes().to_vec());
    hunt(
        "versions",
        seeds.to_vec(),
        &[b"9999999999999999999999", b"0", b"\xd9\xa1", b"-", b" "],
        |text, _| {
            let Ok(text) = str::from_utf8(text) else {
                return "no text".into();
            };
            match parse_version(text) {
                Ok(version) => {
                    assert!(version.is_none_or(|version| i64::try_from(version).is_ok()));
                    format!("{}", version.is_some())
                }
                Err(error) => error.message.into_owned(),
            }
        },
    );
}
