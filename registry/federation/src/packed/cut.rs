//! Writes and reads the fields of packed offers.

/// Appends fields.
pub(super) struct Paste(pub(super) Vec<u8>);

impl Paste {
    pub(super) fn number(&mut self, mut number: u32) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push((number & 0x7f) as u8);
    }

    /// At most 254 bytes: labels have 63 and regions and zones 128 at most.
    pub(super) fn text(&mut self, text: &str) {
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX - 1);
        self.0.push(length);
        self.0.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
    }

    /// At most 255 entries: every list of an accepted offer has 64 at most.
    pub(super) fn list<T>(
        &mut self,
        entries: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        let at = self.0.len();
        self.0.push(0);
        for (count, entry) in (1..=u8::MAX).zip(entries) {
            self.0[at] = count;
            write(self, entry);
        }
    }
}

/// The fields that are still to be read. Past the end there are zeros.
pub(super) struct Cut<'a>(pub(super) &'a [u8]);

impl<'a> Cut<'a> {
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at_checked(count).unwrap_or((self.0, &[]));
        self.0 = rest;
        head
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(super) fn number(&mut self) -> u32 {
        let mut number = 0;
        for shift in (0..32).step_by(7) {
            let byte = self.byte();
            number |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }

    pub(super) fn text_of(&mut self, length: u8) -> &'a str {
        std::str::from_utf8(self.take(usize::from(length))).unwrap_or_default()
    }

    pub(super) fn text(&mut self) -> &'a str {
        let length = self.byte();
        self.text_of(length)
    }

    /// Text up to a 0, which is read too.
    pub(super) fn label(&mut self) -> &'a str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        let text = std::str::from_utf8(self.take(length)).unwrap_or_default();
        self.take(1);
        text
    }

    pub(super) fn list<'s, T>(
        &'s mut self,
        mut read: impl FnMut(&mut Self) -> T + 's,
    ) -> impl Iterator<Item = T> + 's {
        let count = self.byte();
        (0..count).map(move |_| read(self))
    }
}
