//! An answer of our own, written into a buffer that is used again.

use crate::question::{HEADER, Question, UDP_PAYLOAD};
use hickory_proto::ProtoError;
use hickory_proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, Place};

/// The code of the option with an extended error (RFC 8914).
pub(crate) const EXTENDED_ERROR: u16 = 15;
/// The longest text of an extended error in bytes.
const EXTENDED_TEXT: usize = 200;
/// An OPT record without options.
const OPT_LEN: usize = 11;
/// A pointer to the question's name.
pub(crate) const QUESTION_NAME: usize = HEADER;

/// Why a question failed, for people (RFC 8914 section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Why {
    pub(crate) code: WhyCode,
    pub(crate) text: String,
}

/// The codes of RFC 8914 that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhyCode {
    Other = 0,
    Prohibited = 18,
    NoReachableAuthority = 22,
}

impl Why {
    pub(crate) fn new(code: WhyCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The option, with its code and length.
    fn option(&self) -> Vec<u8> {
        let end = self.text.floor_char_boundary(EXTENDED_TEXT);
        let text = &self.text.as_bytes()[..end];
        // at most EXTENDED_TEXT + 2
        let len = u16::try_from(text.len() + 2).unwrap_or(u16::MAX);
        [&EXTENDED_ERROR.to_be_bytes()[..], &len.to_be_bytes(), &(self.code as u16).to_be_bytes(), text]
            .concat()
    }
}

/// Writes the OPT record that answers an asker with EDNS (RFC 6891 section 6.1.1).
pub(crate) fn opt_record(out: &mut Vec<u8>, code_high: u8, dnssec_ok: bool, options: &[u8]) {
    out.push(0);
    out.extend_from_slice(&u16::from(RecordType::OPT).to_be_bytes());
    out.extend_from_slice(&UDP_PAYLOAD.to_be_bytes());
    out.extend_from_slice(&[code_high, 0, if dnssec_ok { 0x80 } else { 0 }, 0]);
    // callers' options are bounded well below
    out.extend_from_slice(&u16::try_from(options.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(options);
}

/// An answer under construction. Records that do not fit into what the asker takes are left out: of the answer with the bit
/// that says so, of the additional section without (RFC 2181 section 9).
pub(crate) struct Reply<'a> {
    encoder: BinEncoder<'a>,
    header: Place<Header>,
    meta: Metadata,
    counts: HeaderCounts,
    opt: Option<(bool, Vec<u8>)>,
}

impl<'a> Reply<'a> {
    /// Begins the answer to `question` in `out`, which is emptied.
    pub(crate) fn new(
        out: &'a mut Vec<u8>,
        question: &Question,
        code: ResponseCode,
        why: Option<&Why>,
    ) -> Result<Self, ProtoError> {
        out.clear();
        let mut encoder = BinEncoder::new(out);
        let opt = question.edns.map(|asked| (asked.dnssec_ok, why.map(Why::option).unwrap_or_default()));
        let reserved = opt.as_ref().map_or(0, |(_, options)| OPT_LEN + options.len());
        let limit = usize::from(question.limit).saturating_sub(reserved);
        encoder.set_max_size(u16::try_from(limit).unwrap_or(u16::MAX));
        let header = encoder.place::<Header>()?;
        encoder.emit_vec(&question.raw)?;
        let mut meta = Metadata::response_from_request(&question.meta);
        meta.response_code = code;
        let queries = u16::from(!question.raw.is_empty());
        let counts = HeaderCounts { queries, ..HeaderCounts::default() };
        Ok(Self { encoder, header, meta, counts, opt })
    }

    /// We have this from our own zone.
    pub(crate) fn authoritative(mut self) -> Self {
        self.meta.authoritative = true;
        self
    }

    /// Everything else can be asked here as well.
    pub(crate) fn recursive(mut self, available: bool) -> Self {
        self.meta.recursion_available = available;
        self
    }

    /// Adds a record to the answer. Its owner is the name at `owner`, an offset in the message.
    pub(crate) fn answer(&mut self, owner: usize, ttl: u32, data: &RData) {
        if self.meta.truncation {
            return;
        }
        match self.record(owner, ttl, data) {
            true => self.counts.answers += 1,
            false => self.meta.truncation = true,
        }
    }

    /// Adds a record to the authority section, as [`Self::answer`] does.
    pub(crate) fn authority(&mut self, owner: usize, ttl: u32, data: &RData) {
        match self.record(owner, ttl, data) {
            true => self.counts.authorities += 1,
            false => self.meta.truncation = true,
        }
    }

    /// Adds a record that spares the asker another question, if it fits.
    pub(crate) fn additional(&mut self, owner: usize, ttl: u32, data: &RData) {
        if !self.meta.truncation && self.record(owner, ttl, data) {
            self.counts.additionals += 1;
        }
    }

    fn record(&mut self, owner: usize, ttl: u32, data: &RData) -> bool {
        let start = self.encoder.offset();
        let written = self.write(owner, ttl, data);
        if written.is_err() {
            self.encoder.set_offset(start);
            self.encoder.trim();
        }
        written.is_ok()
    }

    fn write(&mut self, owner: usize, ttl: u32, data: &RData) -> Result<(), ProtoError> {
        let encoder = &mut self.encoder;
        // owners are in the question, at most 267 bytes from the start
        encoder.emit_u16(0xC000 | u16::try_from(owner).unwrap_or(0))?;
        data.record_type().emit(encoder)?;
        DNSClass::IN.emit(encoder)?;
        encoder.emit_u32(ttl)?;
        let place = encoder.place::<u16>()?;
        data.emit(encoder)?;
        let len = u16::try_from(encoder.len_since_place(&place)).unwrap_or(u16::MAX);
        place.replace(encoder, len)
    }

    /// Ends the message.
    pub(crate) fn finish(mut self) -> Result<ResponseCode, ProtoError> {
        let code = self.meta.response_code;
        self.encoder.set_max_size(u16::MAX);
        if let Some((dnssec_ok, options)) = &self.opt {
            let mut record = Vec::with_capacity(OPT_LEN + options.len());
            opt_record(&mut record, code.high(), *dnssec_ok, options);
            self.encoder.emit_vec(&record)?;
            self.counts.additionals += 1;
        }
        self.header.replace(&mut self.encoder, Header { metadata: self.meta, counts: self.counts })?;
        Ok(code)
    }
}
