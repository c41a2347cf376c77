//! Any bytes are read as each STAN message without a panic, and what is read is written and read
//! again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weirlog_net::stan::wire;

macro_rules! check {
    ($data:expr, $($name:ident)*) => {
        $(if let Ok(message) = wire::$name::decode($data) {
            let mut written = Vec::new();
            message.encode(&mut written);
            assert_eq!(written.len(), message.encoded_len());
            assert_eq!(wire::$name::decode(&written), Ok(message));
        })*
    };
}

fuzz_target!(|data: &[u8]| {
    check!(data,
        PubMsg PubAck MsgProto Ack ConnectRequest ConnectResponse Ping PingResponse
        SubscriptionRequest SubscriptionResponse UnsubscribeRequest CloseRequest CloseResponse CtrlMsg
    );
    if let Ok(message) = wire::MsgProto::decode(data) {
        let mut whole = Vec::new();
        message.encode(&mut whole);
        let mut parts = Vec::new();
        message.encode_before_data(&mut parts);
        parts.extend_from_slice(message.data);
        message.encode_after_data(&mut parts);
        assert_eq!(parts, whole);
    }
});
