// SPDX-License-Identifier: Apache-2.0
//! What clients ask and order about regions of shared memory (`spec/triton.md` 1.8).

use bytes::Bytes;
use nerite_logic::Error;
use nerite_logic::wire::grpc::{frame, messages as proto};
use nerite_logic::wire::v2::{Registration, parse_registration};

use crate::grpc_message::decode;
use crate::routes::{Ask, Device};
use crate::shared::Shared;
use crate::shared_memory::Status;

/// Answers an HTTP request for regions; `body` is that of a registration.
///
/// # Errors
/// If clients may not register memory, or what [`crate::shared_memory::Regions`] says.
pub fn http(
    device: Device,
    ask: Ask,
    region: Option<&str>,
    body: &[u8],
    shared: &Shared,
) -> Result<Bytes, Error> {
    let regions = &shared.regions;
    match (device, ask, region) {
        (Device::System, Ask::Status, _) => {
            let found = serde_json::to_vec(&regions.status(region)?);
            return Ok(found.unwrap_or_default().into());
        }
        (Device::Cuda, Ask::Status, None) => return Ok(Bytes::from_static(b"[]")),
        (Device::Cuda, Ask::Status, Some(name)) => return Err(no_cuda_region(name)),
        (Device::System, Ask::Register, name) => {
            allowed(shared)?;
            regions.register(name.unwrap_or_default(), parse_registration(body)?)?;
        }
        (Device::Cuda, Ask::Register, _) => return Err(no_cuda(shared)),
        (Device::System, Ask::Unregister, _) => regions.unregister(region),
        (Device::Cuda, Ask::Unregister, _) => {}
    }
    Ok(Bytes::new())
}

/// Answers a gRPC call for regions.
///
/// # Errors
/// As [`http`].
pub fn grpc(device: Device, ask: Ask, message: Bytes, shared: &Shared) -> Result<Bytes, Error> {
    let regions = &shared.regions;
    if ask == Ask::Register {
        let asked: proto::SystemSharedMemoryRegion = match device {
            Device::System => decode(message)?,
            Device::Cuda => return Err(no_cuda(shared)),
        };
        allowed(shared)?;
        let registration = Registration {
            key: asked.key,
            offset: asked.offset,
            byte_size: asked.byte_size,
        };
        regions.register(&asked.name, registration)?;
        return Ok(frame(&proto::Empty {}));
    }
    let asked: proto::SharedMemoryName = decode(message)?;
    let name = Some(&*asked.name).filter(|name| !name.is_empty());
    match (device, ask, name) {
        (Device::System, Ask::Status, _) => {
            let regions = regions.status(name)?.into_iter().map(|it| {
                let Status {
                    name,
                    key,
                    offset,
                    byte_size,
                } = it;
                let region = proto::SystemSharedMemoryRegion {
                    name: name.clone(),
                    key,
                    offset,
                    byte_size,
                };
                (name, region)
            });
            return Ok(frame(&proto::SystemSharedMemoryStatusResponse {
                regions: regions.collect(),
            }));
        }
        (Device::Cuda, Ask::Status, Some(name)) => return Err(no_cuda_region(name)),
        (Device::System, _, _) => regions.unregister(name),
        (Device::Cuda, _, _) => {}
    }
    Ok(frame(&proto::Empty {}))
}

fn allowed(shared: &Shared) -> Result<(), Error> {
    match shared.options.allow_client_shm {
        true => Ok(()),
        false => Err(Error::unsupported(
            "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable.",
        )),
    }
}

/// As Triton says it where there is no GPU.
fn no_cuda(shared: &Shared) -> Error {
    let refused = || Error::invalid("failed to register shared memory region: invalid args");
    allowed(shared).err().unwrap_or_else(refused)
}

fn no_cuda_region(name: &str) -> Error {
    Error::not_found(format!(
        "Unable to find cuda shared memory region: '{name}'"
    ))
}
