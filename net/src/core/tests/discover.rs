//! Connect requests on a subject of the operator's choice.

use super::*;
use crate::stan::wire::{ConnectRequest, ConnectResponse};

#[test]
fn a_client_connects_below_the_prefix_that_was_chosen() {
    let mut town = Town::new(2, |net| net.discover_prefix = "find.me".to_owned());
    let peer = town.join(0);
    let curious = town.join(1);
    town.tell(curious, "SUB find.> 1\r\n");
    town.tell(peer, "SUB answer 1\r\nSUB hb.me.0 2\r\n");
    let request =
        ConnectRequest { client_id: "me", heartbeat_inbox: "hb.me.0", ..ConnectRequest::default() };
    let mut payload = Vec::new();
    request.encode(&mut payload);
    town.publish(peer, "_STAN.discover.test-cluster", "answer", &payload);
    assert!(town.got(peer).iter().all(|got| got.subject != "answer"));
    let answer = town.request(peer, "find.me.test-cluster", &payload);
    let answer = ConnectResponse::decode(&answer).unwrap();
    assert_eq!((answer.error, answer.pub_prefix), ("", "_STAN.pub.test-cluster"));
    assert_eq!(town.got(curious)[0].subject, "find.me.test-cluster");
}
