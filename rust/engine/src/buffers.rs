// SPDX-License-Identifier: Apache-2.0
//! Aligned memory for tensors: batch buffers that are used again, and bodies that are read into place.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// The alignment of every batch buffer: a cache line, and the widest vector register.
pub const ALIGNMENT: usize = 64;
/// Buffers that a pool keeps for later.
const KEPT: usize = 8;

/// Uniquely owned bytes whose first one lies on a cache line.
#[derive(Debug)]
pub struct AlignedBuffer {
    start: NonNull<u8>,
    capacity: usize,
    length: usize,
}

// SAFETY: the buffer owns its memory alone, and plain bytes may be moved to and read from any thread.
unsafe impl Send for AlignedBuffer {}
// SAFETY: shared access is read-only (`as_slice`); writing needs `&mut`.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// An empty buffer with room for `capacity` bytes; `None` if the system has no such memory.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Option<Self> {
        let capacity = capacity.max(ALIGNMENT);
        let layout = Layout::from_size_align(capacity, ALIGNMENT).ok()?;
        // SAFETY: the layout has a size above zero.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        Some(Self {
            start,
            capacity,
            length: 0,
        })
    }

    /// A buffer of `length` zero bytes; `None` if the system has no such memory.
    #[must_use]
    pub fn zeroed(length: usize) -> Option<Self> {
        let capacity = length.max(ALIGNMENT);
        let layout = Layout::from_size_align(capacity, ALIGNMENT).ok()?;
        // SAFETY: the layout has a size above zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self {
            start,
            capacity,
            length,
        })
    }

    /// Bytes that fit.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing was written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends `bytes`; those that do not fit are left out and `false` is returned.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let room = self.capacity - self.length;
        let taken = bytes.len().min(room);
        // SAFETY: `length + taken <= capacity`, and a `&[u8]` from elsewhere cannot overlap memory that
        // is owned here and borrowed mutably.
        unsafe {
            self.start
                .as_ptr()
                .add(self.length)
                .copy_from_nonoverlapping(bytes.as_ptr(), taken);
        }
        self.length += taken;
        taken == bytes.len()
    }

    /// Appends `count` zero bytes, as far as they fit.
    pub fn skip(&mut self, count: usize) {
        let taken = count.min(self.capacity - self.length);
        // SAFETY: `length + taken <= capacity`.
        unsafe { self.start.as_ptr().add(self.length).write_bytes(0, taken) };
        self.length += taken;
    }

    /// Forgets what was written.
    pub const fn clear(&mut self) {
        self.length = 0;
    }

    /// What was written.
    #[must_use]
    pub const fn as_slice(&self) -> &[u8] {
        // SAFETY: the first `length` bytes were written by `append` or `skip`, or were zero from the start.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// What was written, to be written over.
    pub const fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // The layout was valid when the memory was taken, so it is valid now.
        if let Ok(layout) = Layout::from_size_align(self.capacity, ALIGNMENT) {
            // SAFETY: the memory came from `alloc` with this very layout.
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}

/// Batch buffers of one input, kept for the next batch.
#[derive(Debug, Default)]
pub struct Pool {
    free: Mutex<Vec<AlignedBuffer>>,
}

impl Pool {
    /// An empty buffer of at least `bytes`, used before if possible; `None` if there is no memory.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<PooledBuffer> {
        let kept = {
            let mut free = self.free.lock();
            let fitting = free.iter().rposition(|buffer| buffer.capacity() >= bytes);
            fitting.map(|index| free.swap_remove(index))
        };
        let buffer = match kept {
            Some(buffer) => buffer,
            None => AlignedBuffer::with_capacity(bytes.checked_next_power_of_two()?)?,
        };
        Some(PooledBuffer {
            buffer: Some(buffer),
            pool: Arc::downgrade(self),
        })
    }

    fn put(&self, mut buffer: AlignedBuffer) {
        buffer.clear();
        let mut free = self.free.lock();
        if free.len() < KEPT {
            free.push(buffer);
        }
    }
}

/// A batch buffer that returns to its pool when the last user lets go of it.
#[derive(Debug)]
pub struct PooledBuffer {
    /// `None` only while it is dropped.
    buffer: Option<AlignedBuffer>,
    pool: Weak<Pool>,
}

impl PooledBuffer {
    /// Appends `bytes`, which the caller has made room for.
    pub fn append(&mut self, bytes: &[u8]) {
        if let Some(buffer) = &mut self.buffer {
            buffer.append(bytes);
        }
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], AlignedBuffer::as_slice)
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if let (Some(buffer), Some(pool)) = (self.buffer.take(), self.pool.upgrade()) {
            pool.put(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_never_overrun() {
        let mut buffer = AlignedBuffer::with_capacity(100).unwrap();
        assert_eq!(buffer.as_slice().as_ptr() as usize % ALIGNMENT, 0);
        assert!(buffer.append(&[7; 60]));
        buffer.skip(30);
        assert!(!buffer.append(&[9; 20]), "ten of twenty bytes fit");
        assert_eq!(buffer.len(), 100);
        assert_eq!(&buffer.as_slice()[59..61], &[7, 0]);
        assert_eq!(&buffer.as_slice()[90..], &[9; 10]);
    }

    #[test]
    fn a_dropped_buffer_serves_the_next_batch() {
        let pool = Arc::new(Pool::default());
        let mut first = pool.take(1000).unwrap();
        first.append(&[1, 2, 3]);
        let place = first.as_ref().as_ptr();
        drop(first);
        let second = pool.take(900).unwrap();
        assert_eq!(second.as_ref().len(), 0);
        assert_eq!(
            second.buffer.as_ref().unwrap().start.as_ptr().cast_const(),
            place
        );
    }

    #[test]
    fn a_buffer_may_outlive_its_pool() {
        let pool = Arc::new(Pool::default());
        let mut buffer = pool.take(10).unwrap();
        drop(pool);
        buffer.append(b"still here");
        assert_eq!(buffer.as_ref(), b"still here");
    }
}
