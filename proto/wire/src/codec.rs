//! How values become bytes: the serialization library, and the frames that messages travel in.
//!
//! This is the only module of the workspace that names the serialization library. A frame is
//!
//! ```text
//! length of the rest (4) | kind (2) | version (2) | body
//! ```
//!
//! in network byte order, at most [`MAX_FRAME`] bytes. A reader skips a frame whose kind or version it does not know, so each
//! side may be of another release.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest frame, with its header, in bytes.
pub const MAX_FRAME: usize = 1 << 20;
/// The bytes before a frame's body.
pub const FRAME_HEADER: usize = 8;

const LIMIT: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<MAX_FRAME>,
> = bincode::config::standard().with_limit::<MAX_FRAME>();

/// A value that could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A frame announces more than [`MAX_FRAME`] bytes, or fewer than its header has.
    #[error("a frame announces {0} bytes; the least is 8 and the most 1048576")]
    Length(u64),
    /// The bytes are not a value of the expected type.
    #[error("malformed {what}: {cause}")]
    Malformed {
        /// The type that was expected.
        what: &'static str,
        /// What the decoder said.
        cause: String,
    },
    /// Bytes are left over after the value.
    #[error("malformed {what}: {left} bytes are left over")]
    LeftOver {
        /// The type that was expected.
        what: &'static str,
        /// How many bytes.
        left: usize,
    },
    /// The value does not fit in [`MAX_FRAME`] bytes.
    #[error("a {what} of {size} bytes does not fit in a frame of 1048576")]
    TooLarge {
        /// The type of the value.
        what: &'static str,
        /// Its size in bytes, 0 when it was not counted.
        size: usize,
    },
}

impl CodecError {
    /// The stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Length(_) => "frame-length",
            Self::Malformed { .. } | Self::LeftOver { .. } => "malformed",
            Self::TooLarge { .. } => "too-large",
        }
    }
}

fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}

/// The bytes of `value`, at most [`MAX_FRAME`].
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let what = short_name::<T>();
    let bytes = bincode::serde::encode_to_vec(value, LIMIT)
        .map_err(|error| CodecError::Malformed { what, cause: error.to_string() })?;
    if bytes.len() > MAX_FRAME {
        return Err(CodecError::TooLarge { what, size: bytes.len() });
    }
    Ok(bytes)
}

/// The value of all of `bytes`, which may be hostile.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let what = short_name::<T>();
    let (value, used) = bincode::serde::decode_from_slice(bytes, LIMIT)
        .map_err(|error| CodecError::Malformed { what, cause: error.to_string() })?;
    if used != bytes.len() {
        return Err(CodecError::LeftOver { what, left: bytes.len() - used });
    }
    Ok(value)
}

/// The bytes of `value` for our own disk, of any size.
pub fn to_vec_unlimited<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::serde::encode_to_vec(value, bincode::config::standard())
        .map_err(|error| CodecError::Malformed { what: short_name::<T>(), cause: error.to_string() })
}

/// The value of all of `bytes`, which come from our own disk and may be damaged; their container lengths are bounded by
/// 1 GiB.
pub fn from_slice_unlimited<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let what = short_name::<T>();
    let config = bincode::config::standard().with_limit::<{ 1 << 30 }>();
    let (value, used) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|error| CodecError::Malformed { what, cause: error.to_string() })?;
    if used != bytes.len() {
        return Err(CodecError::LeftOver { what, left: bytes.len() - used });
    }
    Ok(value)
}

/// One frame as it arrived: its body is not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which message.
    pub kind: u16,
    /// Which version of it.
    pub version: u16,
    /// The encoded message.
    pub body: Bytes,
}

/// A set of messages of one protocol and direction, each with a kind of its own.
pub trait Message: Sized {
    /// The kind of this message.
    fn kind(&self) -> u16;

    /// The version that this release writes.
    const VERSION: u16 = 1;

    /// The encoded body.
    fn body(&self) -> Result<Vec<u8>, CodecError>;

    /// The message in `frame`; `None` when its kind or version is of another release.
    fn from_frame(frame: &Frame) -> Result<Option<Self>, CodecError>;

    /// The message as a frame's bytes.
    fn to_frame(&self) -> Result<Bytes, CodecError> {
        let body = self.body()?;
        let rest = body.len() + FRAME_HEADER - 4;
        let too_large = || CodecError::TooLarge { what: short_name::<Self>(), size: body.len() };
        let length = u32::try_from(rest).ok().filter(|_| rest + 4 <= MAX_FRAME).ok_or_else(too_large)?;
        let mut out = BytesMut::with_capacity(rest + 4);
        out.put_u32(length);
        out.put_u16(self.kind());
        out.put_u16(Self::VERSION);
        out.put_slice(&body);
        Ok(out.freeze())
    }
}

/// Cuts a stream of bytes into frames. Holds at most one frame and what was pushed after it.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
}

impl FrameDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it has arrived.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, CodecError> {
        let Some(head) = self.buffer.get(..4) else { return Ok(None) };
        let rest = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if !(FRAME_HEADER - 4..=MAX_FRAME - 4).contains(&rest) {
            return Err(CodecError::Length(rest as u64 + 4));
        }
        if self.buffer.len() < rest + 4 {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(rest + 4);
        frame.advance(4);
        let (kind, version) = (frame.get_u16(), frame.get_u16());
        Ok(Some(Frame { kind, version, body: frame.freeze() }))
    }

    /// Whether the stream may end here: no frame is half read.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// Declares the messages of one protocol and direction: an enum with a variant a message and a frame kind for each.
macro_rules! messages {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $kind:literal = $variant:ident($body:ty),)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "messages are built once and moved a few times")]
        pub enum $name {
            $($(#[$vmeta])* $variant($body),)*
        }

        impl $crate::codec::Message for $name {
            fn kind(&self) -> u16 {
                match self { $(Self::$variant(_) => $kind),* }
            }

            fn body(&self) -> Result<Vec<u8>, $crate::codec::CodecError> {
                match self { $(Self::$variant(body) => $crate::codec::to_vec(body)),* }
            }

            fn from_frame(frame: &$crate::codec::Frame) -> Result<Option<Self>, $crate::codec::CodecError> {
                if frame.version != Self::VERSION {
                    return Ok(None);
                }
                match frame.kind {
                    $($kind => $crate::codec::from_slice::<$body>(&frame.body).map(|body| Some(Self::$variant(body))),)*
                    _ => Ok(None),
                }
            }
        }

        $(impl From<$body> for $name {
            fn from(body: $body) -> Self {
                Self::$variant(body)
            }
        })*
    };
}
pub(crate) use messages;
