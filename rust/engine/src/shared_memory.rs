// SPDX-License-Identifier: Apache-2.0
//! Regions of shared memory that clients registered, read and written for their requests
//! (`spec/triton.md` 1.8).
//!
//! They are not mapped. What is mapped changes under the reader, and touching what its owner has cut off
//! ends the process with a signal; read and written as the files they are, both are errors like any
//! other. The price is one copy a tensor, within the kernel's page cache.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use bytes::Bytes;
use nerite_logic::Error;
use nerite_logic::error::Code;
use nerite_logic::message::{InferRequest, InferResponse, Window};
use nerite_logic::wire::v2::Registration;
use parking_lot::RwLock;
use serde::Serialize;
use smallvec::SmallVec;

use crate::buffers::AlignedBuffer;

/// Where POSIX shared memory objects lie as files.
const FOLDER: &str = "/dev/shm";
/// Names that Triton's Python backend takes for itself.
const RESERVED: &str = "triton_python_backend_shm_region_";
/// Regions that may be registered at a time.
const MOST: usize = 4096;
/// Bytes that one request may bring in shared memory: what one gRPC message could carry. An object may
/// claim any length without having the memory.
const MOST_BYTES: u64 = 2 << 30;

/// A region, open as long as somebody uses it.
#[derive(Debug)]
pub struct Region {
    key: String,
    offset: u64,
    size: u64,
    file: File,
}

/// What the status endpoint tells of a region.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Status {
    pub name: String,
    pub key: String,
    pub offset: u64,
    pub byte_size: u64,
}

/// All registered regions.
#[derive(Debug, Default)]
pub struct Regions {
    by_name: RwLock<BTreeMap<String, Arc<Region>>>,
}

impl Regions {
    /// Opens a region and keeps it under a name.
    ///
    /// # Errors
    /// If the name is taken, or there is no such object of that size.
    pub fn register(&self, name: &str, asked: Registration) -> Result<(), Error> {
        let mut regions = self.by_name.write();
        if regions.contains_key(name) {
            return Err(Error::new(
                Code::AlreadyExists,
                format!("shared memory region '{name}' already in manager"),
            ));
        }
        if regions.len() >= MOST {
            return Err(Error::invalid(format!(
                "failed to register shared memory region '{name}': {MOST} are registered, which is the most"
            )));
        }
        let region = Region::open(name, asked)?;
        regions.insert(name.to_owned(), Arc::new(region));
        Ok(())
    }

    /// The status of one region, or of all, ordered by name.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn status(&self, name: Option<&str>) -> Result<Vec<Status>, Error> {
        let regions = self.by_name.read();
        let Some(name) = name else {
            return Ok(regions.iter().map(|(name, it)| it.status(name)).collect());
        };
        let found = regions.get(name).ok_or_else(|| {
            Error::not_found(format!(
                "Unable to find system shared memory region: '{name}'"
            ))
        })?;
        Ok(vec![found.status(name)])
    }

    /// Forgets one region, or all. Requests that use it keep it until they are answered.
    pub fn unregister(&self, name: Option<&str>) {
        let mut regions = self.by_name.write();
        match name {
            Some(name) => drop(regions.remove(name)),
            None => regions.clear(),
        }
    }

    /// Reads the inputs that are in shared memory, and finds where the outputs go.
    ///
    /// # Errors
    /// If a region is unknown, or a part lies outside of it.
    pub fn attach(&self, mut request: InferRequest) -> Result<(InferRequest, Targets), Error> {
        let mut targets = Targets::default();
        if request.windows.is_empty() && request.outputs.iter().all(|it| it.window.is_none()) {
            return Ok((request, targets));
        }
        let total = request
            .windows
            .iter()
            .fold(0_u64, |sum, (_, it)| sum.saturating_add(it.size));
        if total > MOST_BYTES {
            return Err(Error::invalid(format!(
                "request has {total} bytes in shared memory, at most {MOST_BYTES} are accepted"
            )));
        }
        for (place, window) in std::mem::take(&mut request.windows) {
            let data = self.find(&window)?.read(&window)?;
            if let Some(input) = request.inputs.get_mut(place) {
                input.data = data;
            }
        }
        for (place, output) in request.outputs.iter().enumerate() {
            if let Some(window) = &output.window {
                let region = self.find(window)?;
                targets.0.push((place, region));
            }
        }
        Ok((request, targets))
    }

    fn find(&self, window: &Window) -> Result<Arc<Region>, Error> {
        let name = &window.region;
        let found = self.by_name.read().get(&**name).cloned();
        let region = found.ok_or_else(|| {
            Error::not_found(format!("Unable to find shared memory region: '{name}'"))
        })?;
        if window.offset > region.size {
            return Err(Error::invalid(format!(
                "Invalid offset for shared memory region: '{name}'"
            )));
        }
        if window.size > region.size - window.offset {
            return Err(Error::invalid(format!(
                "Invalid offset + byte size for shared memory region: '{name}'"
            )));
        }
        Ok(region)
    }
}

/// The regions into which a request's outputs go, by their place among those asked for.
#[derive(Debug, Default)]
pub struct Targets(SmallVec<[(usize, Arc<Region>); 1]>);

impl Targets {
    /// Writes the outputs that go to shared memory and takes their data out of the response.
    ///
    /// # Errors
    /// If an output is larger than the part meant for it, or the client has cut the region off.
    pub fn write(
        &self,
        asked: &nerite_logic::message::Asked,
        response: &mut InferResponse,
    ) -> Result<(), Error> {
        for (place, region) in &self.0 {
            let Some(wanted) = asked.outputs.get(*place) else {
                continue;
            };
            let output = response
                .outputs
                .iter_mut()
                .find(|it| it.name == wanted.name);
            let (Some(output), Some(window)) = (output, &wanted.window) else {
                continue;
            };
            let data = std::mem::take(&mut output.data);
            if data.len() as u64 > window.size {
                return Err(Error::invalid(format!(
                    "shared memory size specified with the request for output '{}' ({} bytes) should be at \
                     least {} bytes to hold the results",
                    output.name,
                    window.size,
                    data.len()
                )));
            }
            region.write(window, &data)?;
        }
        Ok(())
    }
}

impl Region {
    fn open(name: &str, asked: Registration) -> Result<Self, Error> {
        let Registration {
            key,
            offset,
            byte_size,
        } = asked;
        let object = key.trim_start_matches('/');
        if object.starts_with(RESERVED) {
            return Err(Error::invalid(format!(
                "cannot register shared memory region '{name}' with key '{key}' as the key contains the \
                 reserved prefix '{RESERVED}'"
            )));
        }
        let unable = || Error::internal(format!("Unable to open shared memory region: '{key}'"));
        // One name in that folder and nothing else: no path, no link to elsewhere, no pipe to wait for.
        if object.is_empty() || object.contains(['/', '\0']) || matches!(object, "." | "..") {
            return Err(unable());
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(format!("{FOLDER}/{object}"))
            .map_err(|_| unable())?;
        let about = file.metadata().map_err(|_| unable())?;
        if !about.is_file() {
            return Err(unable());
        }
        let fits = offset
            .checked_add(byte_size)
            .is_some_and(|end| end <= about.len());
        if byte_size == 0 || !fits {
            return Err(Error::invalid(format!(
                "failed to register shared memory region '{name}': invalid args"
            )));
        }
        Ok(Self {
            key,
            offset,
            size: byte_size,
            file,
        })
    }

    fn status(&self, name: &str) -> Status {
        Status {
            name: name.to_owned(),
            key: self.key.clone(),
            offset: self.offset,
            byte_size: self.size,
        }
    }

    fn read(&self, window: &Window) -> Result<Bytes, Error> {
        let length = usize::try_from(window.size).unwrap_or(usize::MAX);
        self.holds(window)?;
        let Some(mut data) = AlignedBuffer::zeroed(length) else {
            return Err(Error::unavailable(format!(
                "server has no memory for {length} bytes of shared memory region '{}'",
                window.region
            )));
        };
        self.file
            .read_exact_at(data.as_mut_slice(), self.offset + window.offset)
            .map_err(|why| self.lost(window, &why))?;
        Ok(Bytes::from_owner(data))
    }

    fn write(&self, window: &Window, data: &[u8]) -> Result<(), Error> {
        self.holds(window)?;
        self.file
            .write_all_at(data, self.offset + window.offset)
            .map_err(|why| self.lost(window, &why))
    }

    /// The object may have been cut off since it was registered: memory is reserved, and the object
    /// made longer, only for what is there.
    fn holds(&self, window: &Window) -> Result<(), Error> {
        let length = self.file.metadata().map_or(0, |about| about.len());
        if length < self.offset + window.offset + window.size {
            let text = std::io::Error::other(format!("it has {length} bytes now"));
            return Err(self.lost(window, &text));
        }
        Ok(())
    }

    fn lost(&self, window: &Window, why: &std::io::Error) -> Error {
        Error::invalid(format!(
            "shared memory region '{}' (key '{}') cannot be used from byte {} on: {why}",
            window.region,
            self.key,
            self.offset + window.offset
        ))
    }
}
