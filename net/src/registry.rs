//! This core's copy of the registered clients: what publishes, subscribes and pings are checked against. The truth is
//! in each client's home shard; a connect is answered only when all cores hold the copy.

use bytes::Bytes;
use weirlog_engine::request::{Client, ClientKey};
use weirlog_engine::types::FastMap;

/// One registered client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// This registration.
    pub key: ClientKey,
    /// The id of its connection; empty if it sent none.
    pub connection_id: Bytes,
    /// Whether it answers its heartbeats.
    pub is_responsive: bool,
}

/// The copy.
#[derive(Debug, Default)]
pub struct Registry {
    clients: FastMap<Box<str>, Registered>,
    ids: FastMap<ClientKey, Box<str>>,
    by_connection: FastMap<Bytes, ClientKey>,
    version: u64,
}

impl Registry {
    /// Grows with each change: what was looked up before may be wrong after it.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Number of clients.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The client of this id.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<&Registered> {
        self.clients.get(id)
    }

    /// The client of this connection id.
    #[must_use]
    pub fn by_connection(&self, connection_id: &[u8]) -> Option<&Registered> {
        let key = self.by_connection.get(connection_id)?;
        self.clients.get(self.ids.get(key)?)
    }

    /// Whether this registration still holds.
    #[must_use]
    pub fn contains(&self, key: ClientKey) -> bool {
        self.ids.contains_key(&key)
    }

    /// Takes in a client. One with the same id is replaced: its home says so.
    pub fn insert(&mut self, client: &Client) {
        if let Some(old) = self.clients.get(client.id.as_str()) {
            let old_key = old.key;
            self.remove(old_key);
        }
        self.version += 1;
        let id: Box<str> = client.id.as_str().into();
        self.ids.insert(client.key, id.clone());
        if !client.connection_id.is_empty() {
            self.by_connection.insert(client.connection_id.clone(), client.key);
        }
        let connection_id = client.connection_id.clone();
        self.clients.insert(id, Registered { key: client.key, connection_id, is_responsive: true });
        assert_eq!(self.ids.len(), self.clients.len());
    }

    /// Forgets a registration, if it is known.
    pub fn remove(&mut self, key: ClientKey) {
        let Some(id) = self.ids.remove(&key) else { return };
        self.version += 1;
        if let Some(client) = self.clients.remove(&id)
            && self.by_connection.get(&client.connection_id) == Some(&key)
        {
            self.by_connection.remove(&client.connection_id);
        }
        assert_eq!(self.ids.len(), self.clients.len());
    }

    /// Notes whether a client answers its heartbeats.
    pub fn set_responsive(&mut self, key: ClientKey, is_responsive: bool) {
        if let Some(client) = self.ids.get(&key).and_then(|id| self.clients.get_mut(id)) {
            client.is_responsive = is_responsive;
        }
    }
}

#[cfg(test)]
mod tests {
    use weirlog_engine::types::ShardId;

    use super::*;

    fn client(id: &str, connection: &'static str, incarnation: u64) -> Client {
        Client {
            key: ClientKey { home: ShardId(1), incarnation },
            id: id.to_owned(),
            connection_id: Bytes::from_static(connection.as_bytes()),
            about: Bytes::new(),
        }
    }

    #[test]
    fn a_client_is_found_by_id_and_by_connection() {
        let mut registry = Registry::default();
        registry.insert(&client("me", "c1", 1));
        registry.insert(&client("old", "", 2));
        assert_eq!(registry.by_id("me").unwrap().key.incarnation, 1);
        assert_eq!(registry.by_connection(b"c1").unwrap().key.incarnation, 1);
        assert!(registry.by_connection(b"").is_none(), "no connection id names nobody");
        assert_eq!(registry.by_id("old").unwrap().key.incarnation, 2);
    }

    #[test]
    fn a_new_registration_makes_the_old_connection_id_stale() {
        let mut registry = Registry::default();
        registry.insert(&client("me", "c1", 1));
        let version = registry.version();
        registry.insert(&client("me", "c2", 2));
        assert!(registry.version() > version);
        assert!(registry.by_connection(b"c1").is_none());
        assert!(!registry.contains(ClientKey { home: ShardId(1), incarnation: 1 }));
        registry.remove(ClientKey { home: ShardId(1), incarnation: 1 });
        assert_eq!(registry.len(), 1, "a late removal of the old one leaves the new one");
        registry.remove(ClientKey { home: ShardId(1), incarnation: 2 });
        assert!(registry.is_empty());
    }
}
