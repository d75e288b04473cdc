// SPDX-License-Identifier: Apache-2.0
//! The tensor element types of the v2 protocol (`spec/triton.md` 0.1).

/// An element type, named as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Fp32,
    Fp64,
    Bytes,
    Bf16,
}

impl DataType {
    /// Every type, in the order of the configuration's enum.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
        Self::Bf16,
    ];

    /// The name in requests and metadata, e.g. `FP32`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
            Self::Bf16 => "BF16",
        }
    }

    /// The type that requests call `name`; case matters.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|datatype| datatype.name() == name)
    }

    /// The type that a configuration calls `name`: `TYPE_FP32`, and `TYPE_STRING` for BYTES.
    #[must_use]
    pub fn from_config(name: &str) -> Option<Self> {
        match name.strip_prefix("TYPE_")? {
            "STRING" => Some(Self::Bytes),
            "BYTES" => None,
            wire => Self::from_name(wire),
        }
    }

    /// Bytes of one element; `None` for BYTES, whose elements carry their own length.
    #[must_use]
    pub const fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_and_wire_names_differ_only_for_strings() {
        assert_eq!(DataType::from_config("TYPE_STRING"), Some(DataType::Bytes));
        assert_eq!(DataType::from_config("TYPE_BYTES"), None);
        for datatype in DataType::ALL.into_iter().filter(|d| *d != DataType::Bytes) {
            assert_eq!(
                DataType::from_config(&format!("TYPE_{}", datatype.name())),
                Some(datatype)
            );
        }
    }
}
