//! An upstream's answer, kept as it was written, and passed on with what belongs to the asker: id, case of the name, remaining
//! lifetimes, and EDNS.

use crate::question::{HEADER, Question};
use crate::reply::{EXTENDED_ERROR, opt_record};
use hickory_proto::op::{Header, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};
use std::time::Duration;

/// The longest that a positive answer is kept.
const KEEP: u32 = 86_400;
/// The longest that a negative one is (RFC 2308 section 5 has one to three hours).
const KEEP_NEGATIVE: u32 = 3_600;
/// The most bytes of extended errors that are passed on.
const OPTIONS: usize = 256;

/// Not an answer to the question.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not an answer to the question")]
pub(crate) struct Malformed;

impl From<DecodeError> for Malformed {
    fn from(_: DecodeError) -> Self {
        Self
    }
}

/// An answer, without its EDNS record.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    bytes: Vec<u8>,
    /// Where lifetimes stand.
    ttls: Vec<usize>,
    code_high: u8,
    dnssec_ok: bool,
    /// Extended errors (RFC 8914), which are of use to the asker.
    options: Vec<u8>,
    keep: u32,
}

/// What is gathered from records on the way.
#[derive(Default)]
struct Lifetimes {
    answers: Option<u32>,
    negative: Option<u32>,
}

/// A record, as far as it is looked at.
struct Seen<'a> {
    start: usize,
    kind: RecordType,
    class: u16,
    ttl_at: usize,
    ttl: u32,
    data: &'a [u8],
}

impl Stored {
    /// Reads an answer to `question`, which was asked with `id`.
    pub(crate) fn read(packet: &[u8], question: &Question, id: u16) -> Result<Self, Malformed> {
        let mut decoder = BinDecoder::new(packet);
        let header = Header::read(&mut decoder)?;
        let is_answer = header.message_type == MessageType::Response && header.op_code == OpCode::Query;
        if !is_answer || header.id != id {
            return Err(Malformed);
        }
        let mut stored = Self {
            bytes: Vec::with_capacity(packet.len()),
            ttls: Vec::new(),
            code_high: 0,
            dnssec_ok: false,
            options: Vec::new(),
            keep: 0,
        };
        let counts = header.counts;
        if counts.queries == 0 && header.response_code != ResponseCode::NoError {
            // some refuse without repeating the question
            stored.begin(&packet[..HEADER], &question.raw);
            return Ok(stored);
        }
        let raw = decoder.read_slice(question.raw.len())?.unverified(/* compared below */);
        if counts.queries != 1 || !is_same_question(raw, &question.raw) {
            return Err(Malformed);
        }
        let (end, additionals) =
            stored.read_records(&mut decoder, [counts.answers, counts.authorities, counts.additionals])?;
        stored.bytes.extend_from_slice(packet.get(..end).ok_or(Malformed)?);
        stored.bytes[10..HEADER].copy_from_slice(&additionals.to_be_bytes());
        if header.truncation || !matches!(stored.code(), ResponseCode::NoError | ResponseCode::NXDomain) {
            stored.keep = 0;
        }
        Ok(stored)
    }

    fn begin(&mut self, header: &[u8], question: &[u8]) {
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_slice(question);
        self.bytes[4..HEADER].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    }

    /// Reads the records; where what is kept of them ends, and how many of the last section that are. What follows the EDNS
    /// record, usually nothing, is left away with it: its compressed names could point behind it.
    fn read_records(
        &mut self,
        decoder: &mut BinDecoder<'_>,
        counts: [u16; 3],
    ) -> Result<(usize, u16), Malformed> {
        let mut lifetimes = Lifetimes::default();
        let mut end = (0, counts[2]);
        for (section, count) in counts.into_iter().enumerate() {
            for at in 0..count {
                let record = Seen::read(decoder)?;
                if section == 2 && record.kind == RecordType::OPT {
                    self.read_edns(&record);
                    end = (record.start, at);
                    break;
                }
                self.ttls.push(record.ttl_at);
                lifetimes.see(section, &record);
            }
        }
        if end.0 == 0 {
            end.0 = decoder.index();
        }
        self.keep = lifetimes.keep();
        Ok(end)
    }

    fn read_edns(&mut self, record: &Seen<'_>) {
        let [code_high, _, flags, _] = record.ttl.to_be_bytes();
        (self.code_high, self.dnssec_ok) = (code_high, flags & 0x80 != 0);
        let mut rest = record.data;
        while let [c0, c1, l0, l1, data @ ..] = rest {
            let len = usize::from(u16::from_be_bytes([*l0, *l1]));
            let Some(next) = data.get(len..) else { return };
            let option = &rest[..4 + len];
            if u16::from_be_bytes([*c0, *c1]) == EXTENDED_ERROR
                && self.options.len() + option.len() <= OPTIONS
            {
                self.options.extend_from_slice(option);
            }
            rest = next;
        }
    }

    /// How long it may be kept; not at all if that is zero.
    pub(crate) fn keep(&self) -> Duration {
        Duration::from_secs(self.keep.into())
    }

    /// What it takes to keep it, in bytes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + self.ttls.len() * size_of::<usize>() + self.options.len()
    }

    pub(crate) fn is_truncated(&self) -> bool {
        self.bytes[2] & 0x02 != 0
    }

    pub(crate) fn code(&self) -> ResponseCode {
        ResponseCode::from(self.code_high, self.bytes[3] & 0x0f)
    }

    /// Writes it as the answer to `question`, `age` seconds after it came.
    pub(crate) fn write(&self, question: &Question, age: u32, out: &mut Vec<u8>) {
        out.clear();
        let extra = if question.edns.is_some() { 11 + self.options.len() } else { 0 };
        let name_end = HEADER + question.raw.len();
        let fits = self.bytes.len() + extra <= usize::from(question.limit);
        out.extend_from_slice(if fits { &self.bytes } else { &self.bytes[..name_end] });
        self.write_header(question, fits, out);
        out[HEADER..name_end].copy_from_slice(&question.raw);
        if fits {
            for &at in &self.ttls {
                let left = read_u32(&out[at..]).saturating_sub(age);
                out[at..at + 4].copy_from_slice(&left.to_be_bytes());
            }
        }
        if let Some(asked) = question.edns {
            opt_record(out, self.code_high, asked.dnssec_ok && self.dnssec_ok, &self.options);
        }
    }

    fn write_header(&self, question: &Question, fits: bool, out: &mut [u8]) {
        let meta = &question.meta;
        out[..2].copy_from_slice(&meta.id.to_be_bytes());
        let truncated = if fits { self.bytes[2] & 0x02 } else { 0x02 };
        // a response, not from an authority: that is what a resolver in between is not
        out[2] = 0x80 | truncated | u8::from(meta.recursion_desired);
        out[3] = 0x80 | (self.bytes[3] & 0x2f) | u8::from(meta.checking_disabled) << 4;
        if !fits {
            out[6..HEADER].fill(0);
        }
        if question.edns.is_some() {
            let count = u16::from_be_bytes([out[10], out[11]]).saturating_add(1);
            out[10..HEADER].copy_from_slice(&count.to_be_bytes());
        }
    }
}

impl<'a> Seen<'a> {
    fn read(decoder: &mut BinDecoder<'a>) -> Result<Self, DecodeError> {
        let start = decoder.index();
        skip_name(decoder)?;
        let kind = RecordType::read(decoder)?;
        let class = decoder.read_u16()?.unverified(/* any is passed on */);
        let ttl_at = decoder.index();
        let ttl = decoder.read_u32()?.unverified(/* bounded where it is used */);
        let len = decoder.read_u16()?.unverified(/* checked by the read of so many bytes */);
        let data = decoder.read_slice(usize::from(len))?.unverified(/* passed on as it is */);
        Ok(Self { start, kind, class, ttl_at, ttl, data })
    }
}

impl Lifetimes {
    fn see(&mut self, section: usize, record: &Seen<'_>) {
        // one with the first bit set is no lifetime at all (RFC 2181 section 8)
        let ttl = if record.ttl >> 31 == 0 { record.ttl } else { 0 };
        match (section, record.kind, record.data.last_chunk()) {
            (0, _, _) => self.answers = Some(self.answers.map_or(ttl, |least| least.min(ttl))),
            // its last number is how long a negative answer may be kept (RFC 2308 section 4)
            (1, RecordType::SOA, Some(&minimum)) if record.class == 1 => {
                self.negative = Some(ttl.min(u32::from_be_bytes(minimum)).min(KEEP_NEGATIVE));
            }
            _ => {}
        }
    }

    fn keep(&self) -> u32 {
        [self.answers, self.negative].into_iter().flatten().min().unwrap_or(0).min(KEEP)
    }
}

fn skip_name(decoder: &mut BinDecoder<'_>) -> Result<(), DecodeError> {
    loop {
        match decoder.read_u8()?.unverified(/* every value is looked at */) {
            0 => return Ok(()),
            len @ 1..=63 => decoder.read_slice(usize::from(len))?,
            0xc0.. => return decoder.read_u8().map(|_| ()),
            other => return Err(DecodeError::UnrecognizedLabelCode(other)),
        };
    }
}

/// Whether two questions are the same but for the case of the name, which some servers do not keep.
fn is_same_question(one: &[u8], other: &[u8]) -> bool {
    let split = other.len().saturating_sub(4);
    one.len() == other.len()
        && one[..split].eq_ignore_ascii_case(&other[..split])
        && one[split..] == other[split..]
}

fn read_u32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |&bytes| u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests;
