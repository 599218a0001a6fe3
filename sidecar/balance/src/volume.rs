//! Whether connections of a service carry much.

/// What an average connection carries beyond which a service is bulk, in bytes.
const BULK: f64 = 1_048_576.0;
/// A service that is bulk stays so until its average is below this.
const SMALL: f64 = BULK / 2.0;
/// What a new connection counts.
const PART: f64 = 0.125;

/// What kind of traffic a connection between sidecars is for. They have one for each, so that small requests do not wait
/// behind what fills the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Everything, unless it is known to be bulk.
    #[default]
    Small,
    /// Connections that carried more than 1 MiB on average lately.
    Bulk,
}

/// A moving average of the bytes that connections of one service carried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Volume {
    average: f64,
    class: Class,
}

impl Volume {
    /// Takes note of a connection that carried `bytes`.
    pub fn ended(&mut self, bytes: u64) {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let bytes = bytes as f64;
        self.average += (bytes - self.average) * PART;
        self.class = match self.class {
            Class::Small if self.average > BULK => Class::Bulk,
            Class::Bulk if self.average < SMALL => Class::Small,
            same => same,
        };
    }

    /// What connections are expected to be.
    pub fn class(&self) -> Class {
        self.class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_makes_bulk_and_little_ends_it_later() {
        let mut volume = Volume::default();
        volume.ended(1 << 20);
        assert_eq!(volume.class(), Class::Small, "one alone does not");
        volume.ended(1 << 30);
        assert_eq!(volume.class(), Class::Bulk);
        volume.ended(1000);
        assert_eq!(volume.class(), Class::Bulk);
        let after = (1..200).find(|_| {
            volume.ended(1000);
            volume.class() == Class::Small
        });
        assert!(after.is_some_and(|count| count > 10), "{after:?}");
    }
}
