// SPDX-License-Identifier: Apache-2.0
//! Bytes to messages and back, without input or output.

pub mod base64;
pub mod classification;
pub mod compression;
pub mod grpc;
pub mod json;
pub mod v1;
pub mod v2;
