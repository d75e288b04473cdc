// SPDX-License-Identifier: Apache-2.0
//! Compressed bodies and messages (`spec/triton.md` 1.9, 2.5): which encoding, and both ways through it.
//!
//! Where this runs, and how much may come out, is the engine's to say: [`Encoding::expand`] hands pieces
//! over as they come and stops when it is told to, so that nothing is made ahead of what is taken.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

/// Encodings as HTTP's `accept-encoding` offers them.
pub const OFFERED: &str = "gzip, deflate, zstd";
/// The same as gRPC's `grpc-accept-encoding` does.
pub const OFFERED_GRPC: &str = "identity,gzip,deflate,zstd";
/// Less than this is not worth a header's words.
pub const WORTH_WHILE: usize = 150;

/// Bytes that come out of a decoder at a time.
const PIECE: usize = 64 << 10;
/// The window that a zstd frame may ask for, as RFC 9659 has it: 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A way to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 1952.
    Gzip,
    /// The zlib format, RFC 1950, as HTTP and gRPC mean it.
    Deflate,
    /// RFC 8878.
    Zstd,
}

/// How much work goes into an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// As fast as it gets.
    Low,
    /// As compressors do it by default.
    Medium,
    /// As small as it gets.
    High,
}

/// Why nothing came of compressed data.
#[derive(Debug, PartialEq, Eq)]
pub enum Unexpandable<E> {
    /// Whoever took the pieces had enough.
    Stopped(E),
    /// It is not in this encoding, is damaged, or ends early.
    Broken,
}

impl Encoding {
    /// The encoding of a `content-encoding` or `grpc-encoding`: `None` for none.
    ///
    /// # Errors
    /// If it is not among those offered.
    pub fn named(name: &[u8]) -> Result<Option<Self>, Unknown> {
        let name = name.trim_ascii();
        if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
            return Ok(None);
        }
        Self::known(name).map(Some).ok_or(Unknown)
    }

    fn known(name: &[u8]) -> Option<Self> {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        match () {
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("deflate") => Some(Self::Deflate),
            () if is("zstd") => Some(Self::Zstd),
            () => None,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    /// What an `accept-encoding` likes best: the first of the highest weight; `*` names nothing.
    #[must_use]
    pub fn preferred(accepted: &str) -> Option<Self> {
        let mut best = (0, None);
        for wish in accepted.split(',') {
            let mut parts = wish.split(';');
            let Ok(encoding) = Self::named(parts.next().unwrap_or_default().as_bytes()) else {
                continue;
            };
            let weight = parts.next().map_or(Some(1000), thousandths).unwrap_or(0);
            if weight > best.0 {
                best = (weight, encoding);
            }
        }
        best.1
    }

    /// The one to answer with, of those that a `grpc-accept-encoding` lists: gRPC's own come first.
    #[must_use]
    pub fn accepted_by_grpc(listed: &str) -> Option<Self> {
        let listed = |one: &Self| {
            listed
                .split(',')
                .any(|name| Self::named(name.as_bytes()) == Ok(Some(*one)))
        };
        [Self::Gzip, Self::Deflate, Self::Zstd]
            .into_iter()
            .find(listed)
    }

    /// Compresses what the pieces are together.
    ///
    /// # Errors
    /// If the compressor gives up, which for memory it does not.
    pub fn compress(self, effort: Effort, pieces: &[Bytes]) -> io::Result<Vec<u8>> {
        let length: usize = pieces.iter().map(Bytes::len).sum();
        let out = Vec::with_capacity(length / 4 + 64);
        // Not 1: there zlib-rs takes fixed codes, which make little of numbers written out.
        let zlib = Compression::new(effort.of(2, 6, 9).unsigned_abs());
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, zlib);
                put(&mut encoder, pieces)?;
                encoder.finish()
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(out, zlib);
                put(&mut encoder, pieces)?;
                encoder.finish()
            }
            Self::Zstd => {
                let mut encoder = zstd::Encoder::new(out, effort.of(1, 3, 12))?;
                encoder.set_pledged_src_size(Some(length as u64))?;
                put(&mut encoder, pieces)?;
                encoder.finish()
            }
        }
    }

    /// Hands what `data` says to `take`, piece by piece.
    ///
    /// # Errors
    /// If `take` refuses a piece, or the data is broken.
    pub fn expand<E>(
        self,
        data: &[u8],
        take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), Unexpandable<E>> {
        match self {
            Self::Gzip => pump(&mut MultiGzDecoder::new(data), take),
            Self::Deflate => {
                let mut decoder = ZlibDecoder::new(data);
                pump(&mut decoder, take)?;
                match decoder.into_inner() {
                    [] => Ok(()),
                    _ => Err(Unexpandable::Broken),
                }
            }
            Self::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(data);
                let mut decoder = decoder.map_err(|_| Unexpandable::Broken)?;
                if decoder.window_log_max(ZSTD_WINDOW_LOG).is_err() {
                    return Err(Unexpandable::Broken);
                }
                pump(&mut decoder, take)
            }
        }
    }
}

/// An encoding that is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

impl Effort {
    /// The effort that an option names.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "low" => Some(Self::Low),
            "medium" => Some(Self::Medium),
            "high" => Some(Self::High),
            _ => None,
        }
    }

    const fn of(self, low: i32, medium: i32, high: i32) -> i32 {
        match self {
            Self::Low => low,
            Self::Medium => medium,
            Self::High => high,
        }
    }
}

/// `q=0.5` in thousandths.
fn thousandths(parameter: &str) -> Option<u32> {
    let (key, value) = parameter.trim().split_once('=')?;
    if !key.eq_ignore_ascii_case("q") {
        return None;
    }
    let weight: f32 = value.parse().ok()?;
    // In range, so the cast keeps the value.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (0.0..=1.0)
        .contains(&weight)
        .then_some((weight * 1000.0) as u32)
}

fn put(encoder: &mut impl Write, pieces: &[Bytes]) -> io::Result<()> {
    pieces.iter().try_for_each(|piece| encoder.write_all(piece))
}

fn pump<E>(
    decoder: &mut impl Read,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), Unexpandable<E>> {
    let mut buffer = vec![0; PIECE];
    loop {
        let length = match decoder.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(_) => return Err(Unexpandable::Broken),
        };
        let piece = buffer.get(..length).unwrap_or_default();
        take(piece).map_err(Unexpandable::Stopped)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Encoding; 3] = [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd];

    fn expanded(encoding: Encoding, data: &[u8]) -> Result<Vec<u8>, Unexpandable<()>> {
        let mut out = Vec::new();
        encoding.expand(data, |piece| {
            out.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(out)
    }

    #[test]
    fn what_was_compressed_comes_back() {
        let pieces = [Bytes::from("head "), Bytes::new(), vec![7; 200_000].into()];
        for encoding in ALL {
            for effort in [Effort::Low, Effort::Medium, Effort::High] {
                let data = encoding.compress(effort, &pieces).unwrap();
                assert!(data.len() < 2_000, "{encoding:?}");
                assert_eq!(expanded(encoding, &data).unwrap(), pieces.concat());
            }
        }
        let mut twice = Encoding::Gzip.compress(Effort::Low, &pieces[..1]).unwrap();
        twice.extend(twice.clone());
        assert_eq!(expanded(Encoding::Gzip, &twice).unwrap(), b"head head ");
    }

    #[test]
    fn damage_at_any_place_is_no_answer() {
        let text: Bytes = (0..=255).cycle().take(3_000).collect::<Vec<u8>>().into();
        for encoding in ALL {
            let data = encoding
                .compress(Effort::Medium, std::slice::from_ref(&text))
                .unwrap();
            for end in 1..data.len() {
                assert_eq!(
                    expanded(encoding, &data[..end]),
                    Err(Unexpandable::Broken),
                    "{encoding:?} {end}"
                );
            }
            let longer = [&data[..], b"more"].concat();
            assert!(expanded(encoding, &longer).is_err(), "{encoding:?}");
            assert!(expanded(encoding, b"no such thing").is_err());
        }
    }

    #[test]
    fn a_bomb_stops_where_it_is_told_to() {
        for encoding in ALL {
            let bomb = encoding
                .compress(Effort::High, &[vec![0; 50 << 20].into()])
                .unwrap();
            let mut taken = 0;
            let stopped = encoding.expand(&bomb, |piece| {
                taken += piece.len();
                if taken > 1 << 20 {
                    Err("enough")
                } else {
                    Ok(())
                }
            });
            assert_eq!(stopped, Err(Unexpandable::Stopped("enough")));
            assert!(taken <= (1 << 20) + PIECE);
        }
    }

    #[test]
    fn wishes_are_weighed() {
        use Encoding::{Deflate, Gzip, Zstd};
        for (wish, answer) in [
            ("", None),
            ("gzip", Some(Gzip)),
            ("GZip", Some(Gzip)),
            ("identity", None),
            ("gzip, deflate", Some(Gzip)),
            ("deflate, gzip", Some(Deflate)),
            ("gzip;q=0.5, deflate", Some(Deflate)),
            ("gzip;q=0", None),
            ("gzip;q=x", None),
            ("gzip;q=7", None),
            ("br", None),
            ("*", None),
            ("br, zstd;q=0.9, gzip;q=0.8", Some(Zstd)),
            ("gzip;q=0.2, identity;q=0.8", None),
            ("identity;q=0.2, deflate; q=0.8", Some(Deflate)),
        ] {
            assert_eq!(Encoding::preferred(wish), answer, "{wish}");
        }
        assert_eq!(
            Encoding::accepted_by_grpc("identity, deflate, gzip"),
            Some(Gzip)
        );
        assert_eq!(
            Encoding::accepted_by_grpc("identity,deflate"),
            Some(Deflate)
        );
        assert_eq!(Encoding::accepted_by_grpc("identity,snappy"), None);
    }
}
