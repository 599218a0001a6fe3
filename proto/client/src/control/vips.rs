//! Virtual addresses: what is remembered of them, and how gateways are asked for others.
//!
//! A name keeps its virtual address for ever, so what was told once is answered from memory, whether or not a gateway is there. What is
//! remembered is bounded; it says nothing of whether anybody offers the service now.

mod error;
mod memory;

pub use error::VipError;

use super::picture::Picture;
use super::session::Request;
use causeway_model::{Vip, VipName};
use causeway_wire::ctl::{AskVip, FindVip, MAX_VIP_ASKS, ToGateway};
use causeway_wire::view::Refusal;
use memory::Memory;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a question may take, all gateways that are asked together.
const WITHIN: Duration = Duration::from_secs(2);
/// How long one gateway has until another one is asked, too: more than a change of the registry takes, and far less than it takes until
/// the connection to a gateway that was killed counts as lost.
const HEDGE: Duration = Duration::from_millis(300);
/// How soon gateways are looked for again when there is none to ask.
const AGAIN: Duration = Duration::from_millis(50);

/// A name and its virtual address.
pub(crate) type NamedVip = (VipName, Vip);

/// What a gateway said.
pub(super) type Said = Result<NamedVip, Refusal>;

/// What came of a question.
pub(super) type Answer = Result<NamedVip, VipError>;

/// What a gateway is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Question {
    /// The virtual address of a name.
    Name(VipName),
    /// The name of a virtual address.
    Address(Vip),
}

impl Question {
    /// The question as a message.
    pub(super) fn message(&self, request: u32) -> ToGateway {
        match self {
            Self::Name(name) => AskVip { request, name: name.clone() }.into(),
            Self::Address(vip) => FindVip { request, vip: *vip }.into(),
        }
    }

    /// Whether this answers it.
    pub(super) fn fits(&self, (name, vip): &NamedVip) -> bool {
        match self {
            Self::Name(asked) => asked == name,
            Self::Address(asked) => asked == vip,
        }
    }
}

/// What is known, and what is being asked.
#[derive(Debug)]
pub(super) struct Vips {
    memory: RwLock<Memory>,
    /// Whoever asks what is being asked already waits for the same answer.
    asking: Mutex<HashMap<Question, watch::Receiver<Option<Answer>>>>,
}

impl Vips {
    /// Those that were saved.
    pub(super) fn new(saved: Vec<NamedVip>) -> Self {
        let mut memory = Memory::default();
        for (name, vip) in saved {
            memory.learn(name, vip);
        }
        Self { memory: RwLock::new(memory), asking: Mutex::default() }
    }

    /// The virtual address of `name`, if it is known.
    pub(super) fn vip(&self, name: &VipName) -> Option<Vip> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner).vip(name)
    }

    /// All that is known, what was learned first first.
    pub(super) fn known(&self) -> Vec<NamedVip> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner).all()
    }

    /// How many are known.
    pub(super) fn count(&self) -> usize {
        self.memory.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What memory answers.
    fn remembered(&self, question: &Question) -> Option<NamedVip> {
        match question {
            Question::Name(name) => self.vip(name).map(|vip| (name.clone(), vip)),
            Question::Address(vip) => {
                let memory = self.memory.read().unwrap_or_else(PoisonError::into_inner);
                memory.name(*vip).map(|name| (name, *vip))
            }
        }
    }

    /// Whether it was news.
    pub(super) fn learn(&self, (name, vip): NamedVip) -> bool {
        self.memory.write().unwrap_or_else(PoisonError::into_inner).learn(name, vip)
    }

    fn asking(&self) -> MutexGuard<'_, HashMap<Question, watch::Receiver<Option<Answer>>>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers from memory, or asks gateways. Dropping the future does not end the question: others may wait for its answer, and it ends
/// by itself after [`WITHIN`].
pub(super) async fn resolve(picture: &Arc<Picture>, question: Question) -> Answer {
    if let Some(known) = picture.vips.remembered(&question) {
        return Ok(known);
    }
    let mut answer = ask_once(picture, question)?;
    // without a sender the runtime is ending
    let answered = answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
    answered.unwrap_or(Err(VipError::NoGateway))
}

/// Where the answer will be, of a new question or of the same one that was asked already.
fn ask_once(picture: &Arc<Picture>, question: Question) -> Result<watch::Receiver<Option<Answer>>, VipError> {
    let mut asking = picture.vips.asking();
    let full = asking.len() >= MAX_VIP_ASKS;
    let place = match asking.entry(question.clone()) {
        Entry::Occupied(same) => return Ok(same.get().clone()),
        Entry::Vacant(_) if full => return Err(VipError::too_many()),
        Entry::Vacant(place) => place,
    };
    let (tell, answer) = watch::channel(None);
    place.insert(answer.clone());
    drop(asking);
    let picture = picture.clone();
    tokio::spawn(async move {
        let said = timeout(WITHIN, ask(&picture, &question)).await.unwrap_or(Err(VipError::Timeout));
        match &said {
            Ok(known) => picture.learn_vip(known.clone()),
            Err(_) => _ = picture.metrics.vip_failures.inc(),
        }
        // only now: who comes later finds it in memory
        picture.vips.asking().remove(&question);
        tell.send_replace(Some(said));
    });
    Ok(answer)
}

/// Asks the gateways that there are, and those that come, until one has answered.
async fn ask(picture: &Picture, question: &Question) -> Answer {
    let mut state = picture.state.subscribe();
    loop {
        if picture.leaving.is_cancelled() || state.borrow_and_update().alone_since.is_some() {
            return Err(VipError::NoGateway);
        }
        if let Some(said) = ask_each(picture.sessions(), question).await {
            return said.map_err(VipError::from);
        }
        // this sidecar has just started, or its sessions have ended and others are being made
        let _ = timeout(AGAIN, state.changed()).await;
    }
}

/// Asks one session after the other, the next one as well when one is slow; nothing if all ended meanwhile. What one refuses another may
/// know: replicas of the registry lag behind each other.
async fn ask_each(mut sessions: Vec<mpsc::Sender<Request>>, question: &Question) -> Option<Said> {
    if !sessions.is_empty() {
        // every gateway is the first one of some questions
        let first = rand::random_range(0..sessions.len());
        sessions.rotate_left(first);
    }
    let (mut sessions, mut asked, mut refused) = (sessions.into_iter(), JoinSet::new(), None);
    while sessions.len() > 0 || !asked.is_empty() {
        if let Some(session) = sessions.next() {
            asked.spawn(put(session, question.clone()));
        }
        let patience = if sessions.len() > 0 { HEDGE } else { WITHIN };
        match timeout(patience, asked.join_next()).await {
            Ok(Some(Ok(Some(Ok(known))))) => return Some(Ok(known)),
            Ok(Some(Ok(Some(Err(refusal))))) => refused = Some(weightier(refused, refusal)),
            // it is slow, or its session has ended
            _ => {}
        }
    }
    refused.map(Err)
}

/// What one session says; nothing if it ends before.
async fn put(session: mpsc::Sender<Request>, question: Question) -> Option<Said> {
    let (answer, said) = oneshot::channel();
    session.send(Request::Vip { question, answer }).await.ok()?;
    said.await.ok()
}

/// Of two refusals the one that says more: a gateway that could not do it knew the name.
fn weightier(one: Option<Refusal>, other: Refusal) -> Refusal {
    match one {
        Some(one) if !error::says_unknown(&one.reason) => one,
        _ => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: &str) -> Refusal {
        Refusal { request: 1, reason: reason.into(), message: "no".into() }
    }

    /// A session that answers each question with what `said` gives, or ends.
    fn session(said: impl Fn(Question) -> Option<Said> + Send + 'static) -> mpsc::Sender<Request> {
        let (requests, mut receiver) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(Request::Vip { question, answer }) = receiver.recv().await {
                let Some(said) = said(question) else { return };
                let _ = answer.send(said);
            }
        });
        requests
    }

    fn known(question: Question) -> Option<Said> {
        match question {
            Question::Name(name) => Some(Ok((name, Vip::new(7).unwrap()))),
            Question::Address(_) => None,
        }
    }

    #[tokio::test]
    async fn one_gateway_that_knows_is_enough() {
        let question = Question::Name("web.shop".parse().unwrap());
        let expected = known(question.clone()).unwrap();
        for reason in ["service-unknown", "no-quorum"] {
            for _ in 0..8 {
                let sessions =
                    vec![session(move |_| Some(Err(refusal(reason)))), session(known), session(|_| None)];
                assert_eq!(ask_each(sessions, &question).await, Some(expected.clone()));
            }
        }
        assert_eq!(ask_each(Vec::new(), &question).await, None);
        assert_eq!(ask_each(vec![session(|_| None), session(|_| None)], &question).await, None);
    }

    #[tokio::test]
    async fn a_gateway_that_knew_the_name_and_could_not_says_more() {
        let question = Question::Name("web.shop".parse().unwrap());
        for _ in 0..8 {
            let sessions = vec![
                session(|_| Some(Err(refusal("service-unknown")))),
                session(|_| Some(Err(refusal("no-quorum")))),
                session(|_| None),
            ];
            assert_eq!(ask_each(sessions, &question).await, Some(Err(refusal("no-quorum"))));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_is_silent_costs_a_moment() {
        let question = Question::Name("web.shop".parse().unwrap());
        let began = tokio::time::Instant::now();
        let (silent, mut unread) = mpsc::channel(8);
        for _ in 0..8 {
            let said = ask_each(vec![silent.clone(), session(known)], &question).await;
            assert_eq!(said, known(question.clone()));
        }
        assert!(unread.try_recv().is_ok(), "it was never asked first");
        assert!(began.elapsed() <= 8 * HEDGE + Duration::from_millis(10), "{:?}", began.elapsed());
    }
}
