//! A connection says who it is, and is told what it may not do. The decisions are made in [`crate::auth`].

use std::sync::Arc;

use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::Now;

use super::{Core, Message, TimerEvent};
use crate::auth::{Credentials, Decision, Identity, PasswordCheck, Proof, Violation};
use crate::ids::ConnectionId;
use crate::info::Connect;
use crate::nats::emit;
use crate::nats::op::Op;
use crate::session::{Responses, Session, Stop};

/// What a client is told whose credentials are wrong, or that did not send any.
pub(crate) const AUTHORIZATION_VIOLATION: &str = "Authorization Violation";

/// What is read of a connection before it has said who it is: a CONNECT as long as a control line may be by default, and
/// some blanks. What follows it is read afterwards. With all else that a connection costs it stays below 8 KiB.
pub const STRANGER_SIZE_BYTES_MAX: usize = 4_096 + 256;

/// Subjects between servers, which clients may not publish to.
const RESERVED_SUBJECTS: &[&[u8]] = &[b"_GR_.", b"$GR.", b"$NRG."];
/// Subjects that have a meaning for a server when an answer is sent to them: clients may not name them as replies.
const RESERVED_REPLIES: &[&[u8]] = &[b"_R_.", b"_GR_.", b"$GR.", b"$JS."];
/// Passwords of a core on their way to be compared with hashes, each some tens of milliseconds of a thread; whoever
/// comes beyond is closed, for its time would be over before its turn.
const PASSWORD_CHECKS_COUNT_MAX: usize = 64;

impl<D: Disk, R: Runtime> Core<D, R> {
    /// Takes a new connection for nobody, or for the user that those without credentials are. Its time began when it
    /// was `accepted`.
    pub(crate) fn await_credentials(&mut self, id: ConnectionId, accepted: Now) {
        let Some(authorization) = self.hub.config.authorization.clone() else { return };
        let Some(session) = self.hub.sessions.get_mut(id) else { return };
        session.identity = authorization.no_auth_identity().cloned();
        if session.identity.is_none() {
            let time_ms = authorization.timeout_ms();
            self.hub.set_timer(accepted, time_ms, TimerEvent::Authentication(id));
        }
    }

    /// Closes a connection that still has not said who it is.
    pub(crate) fn check_credentials_came(&mut self, id: ConnectionId) {
        // A password on its way is no fault of the client's.
        let is_nobody = |session: &Session| {
            session.identity.is_none() && session.connecting.is_none() && !session.is_closing
        };
        if self.hub.sessions.get(id).is_some_and(is_nobody) {
            self.hub.close(id, Some("Authentication Timeout"));
        }
    }

    /// Whether a connection has still to say who it is: no more than [`STRANGER_SIZE_BYTES_MAX`] of it is kept.
    #[must_use]
    pub fn is_stranger(&self, id: ConnectionId) -> bool {
        self.hub.config.authorization.is_some()
            && self.hub.sessions.get(id).is_some_and(|session| session.identity.is_none())
    }

    /// Whether an operation is one that a connection may not send before it has said who it is.
    pub(crate) fn is_premature(&self, id: ConnectionId, op: &Op<'_>) -> bool {
        self.is_stranger(id) && !matches!(op, Op::Connect(_))
    }

    /// Whether a connection begins to say something else before it has said who it is: that is not read to its end.
    pub(crate) fn is_out_of_turn(&self, id: ConnectionId, input: &[u8]) -> bool {
        let first = input.first().map(u8::to_ascii_uppercase);
        first.is_some_and(|first| first != b'C') && self.is_stranger(id)
    }

    /// Whether a connection may publish a message; it is told if not.
    #[inline]
    pub(crate) fn may_publish(&mut self, id: ConnectionId, message: &Message<'_>) -> bool {
        let Some(session) = self.hub.sessions.get(id) else { return false };
        let is_denied = session.permissions().is_some_and(|may| !may.may_publish(message.subject))
            && !self.is_answer(id, message.subject);
        if is_denied || begins_with_any(message.subject, RESERVED_SUBJECTS) {
            self.deny_publish(id, "to", message.subject);
            return false;
        }
        if let Some(reply) = message.reply
            && begins_with_any(reply, RESERVED_REPLIES)
        {
            self.deny_publish(id, "with Reply of", reply);
            return false;
        }
        true
    }

    /// Whether a message is the answer to one that the connection got, as `allow_responses` lets it send.
    #[cold]
    fn is_answer(&mut self, id: ConnectionId, subject: &[u8]) -> bool {
        let now = self.hub.now;
        let session = self.hub.sessions.get_mut(id);
        session.is_some_and(|session| session.responses.take(subject, now))
    }

    /// Finds out from the JSON of a CONNECT who a connection is. False: not now; it is nobody who may come in, and
    /// closed, or its password takes a while to compare.
    pub(crate) fn identify(&mut self, id: ConnectionId, json: &[u8], options: &Connect) -> bool {
        let Some(authorization) = self.hub.config.authorization.as_ref().map(Arc::clone) else {
            return true;
        };
        let Some(session) = self.hub.sessions.get_mut(id) else { return false };
        // What was found out for another user does not hold any more.
        session.publisher.channel.clear();
        session.responses = Responses::default();
        let proof = Proof {
            nonce: session.nonce.as_deref(),
            certificate_names: session.certificate_names.as_deref(),
        };
        let given = Credentials::parse(json).ok_or(Violation);
        let decided = given
            .as_ref()
            .map_err(|_| Violation)
            .and_then(|given| authorization.decide(given, proof));
        if let Ok(given) = &given {
            session.login = authorization.login_of(given, proof);
        }
        match decided {
            Ok(Decision::Known(identity)) => {
                session.identity = Some(identity);
                true
            }
            Ok(Decision::Hashed(check)) if self.hub.checks_count < PASSWORD_CHECKS_COUNT_MAX => {
                session.stop = Some(Stop::Password);
                session.connecting = Some(Box::new(options.clone()));
                self.hub.checks_count += 1;
                self.hub.checks.push((id, check));
                false
            }
            Ok(Decision::Hashed(_)) => {
                self.hub.close(id, Some("Authentication Timeout"));
                false
            }
            Err(Violation) => {
                self.hub.close(id, Some(AUTHORIZATION_VIOLATION));
                false
            }
        }
    }

    /// Passwords to compare, on a thread that may take its time. Each is answered by [`Core::password_checked`].
    pub fn take_password_checks(&mut self) -> Vec<(ConnectionId, PasswordCheck)> {
        std::mem::take(&mut self.hub.checks)
    }

    /// A password was compared: who the client is, or nobody.
    pub fn password_checked(&mut self, id: ConnectionId, found: Option<Identity>, now: Now) {
        self.hub.checks_count -= 1;
        let Some(session) = self.hub.sessions.get_mut(id) else { return };
        let Some(options) = session.connecting.take() else { return };
        session.stop = None;
        self.hub.wakes.push(id);
        session.identity = found;
        if session.identity.is_some() {
            self.connect(id, *options, now);
        } else {
            self.hub.close(id, Some(AUTHORIZATION_VIOLATION));
        }
    }

    /// Whether a connection may publish to a channel.
    pub(crate) fn may_publish_channel(&self, id: ConnectionId, channel: &str) -> bool {
        let session = self.hub.sessions.get(id);
        session.and_then(|session| session.permissions()).is_none_or(|may| {
            may.may_publish(format!("{}.{channel}", self.stan.subjects.publish).as_bytes())
        })
    }

    /// Whether a connection may subscribe to a channel.
    pub(crate) fn may_subscribe_channel(&self, id: ConnectionId, channel: &str) -> bool {
        let session = self.hub.sessions.get(id);
        session.and_then(|session| session.permissions()).is_none_or(|may| {
            let subject = format!("{}.{channel}", self.stan.subjects.subscribe);
            may.may_subscribe_channel(subject.as_bytes())
        })
    }

    /// Whether a connection may have channel messages sent to `inbox`: only what it may listen to itself, or the server
    /// would publish for it where it may not.
    pub(crate) fn may_use_inbox(&self, id: ConnectionId, inbox: &[u8]) -> bool {
        let session = self.hub.sessions.get(id);
        session.and_then(Session::permissions).is_none_or(|may| may.may_subscribe(inbox, None))
    }

    /// Tells a connection that its message was dropped.
    #[cold]
    fn deny_publish(&mut self, id: ConnectionId, how: &str, subject: &[u8]) {
        let subject = String::from_utf8_lossy(subject);
        let text = format!("Permissions Violation for Publish {how} \"{subject}\"");
        self.hub.write(id, text.len() + 16, |out| emit::err(out, &text));
    }

    /// Tells a connection that its subscription was not made.
    #[cold]
    pub(crate) fn deny_subscription(
        &mut self,
        id: ConnectionId,
        subject: &[u8],
        queue: Option<&[u8]>,
    ) {
        let subject = String::from_utf8_lossy(subject);
        let mut text = format!("Permissions Violation for Subscription to \"{subject}\"");
        if let Some(queue) = queue {
            text += &format!(" using queue \"{}\"", String::from_utf8_lossy(queue));
        }
        self.hub.write(id, text.len() + 16, |out| emit::err(out, &text));
    }
}

#[inline]
fn begins_with_any(subject: &[u8], prefixes: &[&[u8]]) -> bool {
    // Most subjects begin with a letter and need no more than this.
    matches!(subject.first(), Some(b'_' | b'$'))
        && prefixes.iter().any(|prefix| subject.starts_with(prefix))
}
