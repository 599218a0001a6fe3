//! Answers of upstreams, within a bound of bytes. Time is an argument.

use super::message::Stored;
use crate::question::Question;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// What an entry takes beside its answer and the bytes of its key, about.
const ENTRY: usize = 160;

/// What an answer depends on: name, type and class, and what the asker set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    question: Arc<[u8]>,
    flags: u8,
}

impl Key {
    pub(super) fn of(question: &Question) -> Self {
        let (name, rest) = question.raw.split_at(question.raw_name().len());
        // the case of a name is the asker's own, not the answer's
        let lower = name.iter().map(u8::to_ascii_lowercase).chain(rest.iter().copied()).collect();
        let meta = &question.meta;
        let flags = [
            meta.recursion_desired,
            meta.authentic_data,
            meta.checking_disabled,
            question.edns.is_some(),
            question.edns.is_some_and(|asked| asked.dnssec_ok),
        ];
        let flags = flags.into_iter().fold(0, |all, flag| all << 1 | u8::from(flag));
        Self { question: lower, flags }
    }
}

#[derive(Debug)]
struct Entry {
    answer: Arc<Stored>,
    since: Instant,
    until: Instant,
    /// It was asked for since it was last looked at for eviction.
    used: bool,
}

/// The answers that are kept. When there is no room, the oldest ones go, but those that were asked for get a second chance.
#[derive(Debug)]
pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    /// The keys of `entries`, each once.
    order: VecDeque<Key>,
    bytes: usize,
    capacity: usize,
}

impl Cache {
    /// A cache of `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), bytes: 0, capacity }
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The answer, and its age in seconds.
    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Option<(Arc<Stored>, u32)> {
        let entry = self.entries.get_mut(key).filter(|entry| now < entry.until)?;
        entry.used = true;
        let age = now.saturating_duration_since(entry.since).as_secs();
        Some((Arc::clone(&entry.answer), u32::try_from(age).unwrap_or(u32::MAX)))
    }

    /// Keeps `answer` for as long as it may be kept.
    pub(super) fn insert(&mut self, key: Key, answer: &Arc<Stored>, now: Instant) {
        let size = size(&key, answer);
        if answer.keep().is_zero() || size > self.capacity / 8 {
            return;
        }
        let until = now + answer.keep();
        let entry = Entry { answer: Arc::clone(answer), since: now, until, used: false };
        match self.entries.insert(key.clone(), entry) {
            Some(old) => self.bytes -= self::size(&key, &old.answer),
            None => self.order.push_back(key),
        }
        self.bytes += size;
        self.shrink(now);
    }

    fn shrink(&mut self, now: Instant) {
        while self.bytes > self.capacity {
            let Some(key) = self.order.pop_front() else { return };
            match self.entries.get_mut(&key) {
                Some(entry) if entry.used && now < entry.until => {
                    entry.used = false;
                    self.order.push_back(key);
                }
                _ => {
                    if let Some(old) = self.entries.remove(&key) {
                        self.bytes -= size(&key, &old.answer);
                    }
                }
            }
        }
    }
}

fn size(key: &Key, answer: &Stored) -> usize {
    ENTRY + key.question.len() + answer.size()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::Transport;
    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use std::time::Duration;

    fn question(name: &str, cd: bool) -> Question {
        let mut message = Message::new(1, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        message.metadata.checking_disabled = cd;
        Question::read(&message.to_vec().unwrap(), Transport::Udp).unwrap()
    }

    fn answer(name: &str, ttl: u32) -> Arc<Stored> {
        let mut message = Message::response(1, OpCode::Query);
        let name = Name::from_ascii(name).unwrap();
        message.add_query(Query::query(name.clone(), RecordType::A));
        message.add_answer(Record::from_rdata(name.clone(), ttl, RData::A(A::new(192, 0, 2, 1))));
        let question = question(&name.to_ascii(), false);
        Arc::new(Stored::read(&message.to_vec().unwrap(), &question, 1).unwrap())
    }

    #[test]
    fn an_answer_is_kept_for_its_lifetime_and_ages() {
        let (mut cache, now) = (Cache::new(1 << 20), Instant::now());
        let key = Key::of(&question("A.example.", false));
        cache.insert(key.clone(), &answer("a.example.", 60), now);
        let at =
            |cache: &mut Cache, secs| cache.get(&key, now + Duration::from_secs(secs)).map(|(_, age)| age);
        assert_eq!((at(&mut cache, 0), at(&mut cache, 59), at(&mut cache, 60)), (Some(0), Some(59), None));
        assert!(cache.get(&Key::of(&question("a.EXAMPLE.", false)), now).is_some());
        assert!(cache.get(&Key::of(&question("a.example.", true)), now).is_none());
        cache.insert(key.clone(), &answer("a.example.", 60), now + Duration::from_secs(70));
        assert_eq!(at(&mut cache, 71), Some(1));
        assert_eq!((cache.order.len(), cache.entries.len()), (1, 1));
        cache.insert(Key::of(&question("b.example.", false)), &answer("b.example.", 0), now);
        assert_eq!(cache.entries.len(), 1);
    }

    #[test]
    fn the_bytes_are_bounded_and_what_is_asked_for_stays() {
        let (mut cache, now) = (Cache::new(20_000), Instant::now());
        let hot = Key::of(&question("hot.example.", false));
        cache.insert(hot.clone(), &answer("hot.example.", 60), now);
        for n in 0..1_000 {
            let name = format!("n{n}.example.");
            cache.insert(Key::of(&question(&name, false)), &answer(&name, 60), now);
            assert!(cache.bytes() <= 20_000);
            assert!(cache.get(&hot, now).is_some(), "{n}");
        }
        assert!(cache.entries.len() > 10 && cache.entries.len() == cache.order.len());
        let sum: usize = cache.entries.iter().map(|(key, entry)| size(key, &entry.answer)).sum();
        assert_eq!(sum, cache.bytes());
    }
}
