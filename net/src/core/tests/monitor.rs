//! The pages of monitoring, made from what real cores tell. Fields and texts are those of nats-server 2.9.24 and
//! nats-streaming-server 0.25.6 (spec stan.md, section 4).

use std::cell::RefCell;
use std::task::{Context, Poll, Waker};

use serde_json::{Value, json};

use super::stan_client::from_first;
use super::*;
use crate::auth::{Authorization, AuthorizationSpec, UserSpec};
use crate::monitor::cores::Cores;
use crate::monitor::http::{ParsedHead, Request, Response, Status};
use crate::monitor::pages::{Pages, Site};
use crate::monitor::process::ProcessReport;
use crate::monitor::report::{Inquiry, Report};

/// A server whose pages are looked at, from its first core.
struct Watched {
    town: RefCell<Town>,
    pages: Pages,
    process: ProcessReport,
}

impl Cores for Watched {
    fn core_count(&self) -> u16 {
        u16::try_from(self.town.borrow().cores.len()).unwrap()
    }

    fn shard_count(&self) -> u16 {
        SHARD_COUNT
    }

    fn config(&self) -> NetConfig {
        self.town.borrow().cores[0].config().clone()
    }

    fn now(&self) -> Now {
        self.town.borrow().now()
    }

    fn process(&self) -> ProcessReport {
        self.process
    }

    async fn ask(&self, core: CoreId, inquiry: Inquiry) -> Report {
        let mut town = self.town.borrow_mut();
        let now = town.now();
        let ticket = town.cores[0].inquire(core, inquiry, now);
        town.carry(0);
        town.carry(usize::from(core.0));
        let (found, report) = town.cores[0].take_reports().pop().expect("it is answered at once");
        assert_eq!(found, ticket);
        report
    }
}

impl Watched {
    fn new(town: Town) -> Self {
        let site = Site { started_at: town.now(), version: "1.2.3", ..Site::default() };
        let process = ProcessReport {
            resident_bytes: 5,
            open_files: 6,
            open_files_max: 7,
            ..Default::default()
        };
        Self { town: RefCell::new(town), pages: Pages::new(site), process }
    }

    fn get(&self, target: &str) -> Response {
        let head = format!("GET {target} HTTP/1.1\r\n\r\n");
        let ParsedHead::Request(request) = Request::parse(head.as_bytes()) else {
            panic!("{target} is a request")
        };
        let answer = std::pin::pin!(self.pages.answer(&request, self));
        match answer.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(response) => response,
            Poll::Pending => panic!("the test's cores answer at once"),
        }
    }

    fn json(&self, target: &str) -> Value {
        let response = self.get(target);
        assert_eq!(response.status, Status::Ok, "{target}");
        assert_eq!(response.content_type, "application/json", "{target}");
        serde_json::from_slice(&response.body).unwrap()
    }

    fn text(&self, target: &str) -> (Status, String) {
        let response = self.get(target);
        (response.status, String::from_utf8(response.body).unwrap())
    }

    fn advance(&self, milliseconds: u64) {
        self.town.borrow_mut().advance(milliseconds);
    }
}

/// The names in a page, with a value each that does not change from run to run.
fn fields(page: &Value) -> Vec<&str> {
    page.as_object().unwrap().keys().map(String::as_str).collect()
}

fn has_all(page: &Value, names: &str) {
    for name in names.split_whitespace() {
        assert!(page.get(name).is_some(), "{name} is not in {page}");
    }
}

#[test]
fn varz_counts_over_all_cores() {
    let mut town = Town::new(2, |_| {});
    let (one, other) = (town.enter(0), town.enter(1));
    town.say(one, "SUB a 1\r\nSUB b 2\r\nUNSUB 2\r\nPING\r\n");
    town.say(other, "PUB a 5\r\nhello\r\nHPUB a 12 15\r\nNATS/1.0\r\n\r\nabc\r\nPUB c 1\r\nx\r\n");
    town.say(one, "PUB a 2\r\nme\r\n");
    let gone = town.enter(0);
    town.leave(gone);
    let watched = Watched::new(town);
    let page = watched.json("/varz");
    has_all(
        &page,
        "server_id server_name version proto go host port max_connections ping_interval ping_max http_host http_port \
         http_base_path https_port auth_timeout max_control_line max_payload max_pending cluster gateway leaf mqtt \
         websocket jetstream write_deadline start now uptime mem cores gomaxprocs cpu connections total_connections \
         routes remotes leafnodes in_msgs out_msgs in_bytes out_bytes slow_consumers subscriptions http_req_stats",
    );
    assert_eq!((&page["connections"], &page["total_connections"]), (&json!(2), &json!(3)));
    assert_eq!((&page["in_msgs"], &page["in_bytes"]), (&json!(4), &json!(5 + 15 + 1 + 2)));
    assert_eq!((&page["out_msgs"], &page["out_bytes"]), (&json!(3), &json!(5 + 15 + 2)));
    assert_eq!((&page["subscriptions"], &page["mem"]), (&json!(1), &json!(5)));
    assert_eq!(page["ping_interval"], json!(120_000_000_000_u64));
    watched.json("/healthz");
    let visits = json!({ "/varz": 2, "/healthz": 1 });
    assert_eq!(watched.json("/varz")["http_req_stats"], visits);
}

/// Two connections of two users on two cores, and one that was closed.
fn with_connections() -> Watched {
    let users = ["ann", "bob"].map(|name| UserSpec {
        name: name.to_owned(),
        password: "pw".to_owned(),
        permissions: None,
    });
    let spec = AuthorizationSpec { users: users.to_vec(), ..AuthorizationSpec::default() };
    let authorization = std::sync::Arc::new(Authorization::new(&spec).unwrap());
    let mut town = Town::new(2, |config| config.authorization = Some(authorization));
    let mut enter = |core: usize, name: &str| {
        let peer = town.join(core);
        let connect = format!(
            "CONNECT {{\"verbose\":false,\"user\":\"{name}\",\"pass\":\"pw\",\"name\":\"the {name}\",\"lang\":\"go\",\"version\":\"1\"}}\r\nPING\r\n"
        );
        assert_eq!(town.say(peer, connect), "PONG\r\n");
        town.advance(1_000);
        peer
    };
    let (ann, bob) = (enter(0, "ann"), enter(1, "bob"));
    let lost = enter(1, "ann");
    town.say(ann, "SUB a.* 7\r\nSUB b g 8\r\n");
    town.say(bob, "PUB a.b 3\r\nabc\r\n");
    town.say(lost, "what?\r\n");
    town.leave(lost);
    town.advance(61_000);
    Watched::new(town)
}

#[test]
fn connz_shows_connections() {
    let watched = with_connections();
    let page = watched.json("/connz");
    let counts = ["num_connections", "total", "offset", "limit"].map(|name| page[name].clone());
    assert_eq!(counts, [2, 2, 0, 1024].map(Value::from));
    let row = &page["connections"][0];
    assert_eq!(
        (&row["cid"], &row["kind"], &row["type"]),
        (&json!(1), &json!("Client"), &json!("nats"))
    );
    assert_eq!((&row["ip"], &row["port"]), (&json!("10.0.0.1"), &json!(5000)));
    assert_eq!(
        (&row["name"], &row["lang"], &row["version"]),
        (&json!("the ann"), &json!("go"), &json!("1"))
    );
    assert_eq!((&row["out_msgs"], &row["out_bytes"]), (&json!(1), &json!(3)));
    assert_eq!((&row["in_msgs"], &row["subscriptions"]), (&json!(0), &json!(2)));
    assert_eq!((&row["uptime"], &row["idle"]), (&json!("1m4s"), &json!("1m1s")));
    has_all(row, "start last_activity pending_bytes in_bytes");
    for name in ["authorized_user", "account", "subscriptions_list", "stop", "reason"] {
        assert!(row.get(name).is_none(), "{name} is shown only on request");
    }
    let row = &watched.json("/connz?auth=1&subs=1")["connections"][0];
    assert_eq!((&row["authorized_user"], &row["account"]), (&json!("ann"), &json!("$G")));
    assert_eq!(row["subscriptions_list"], json!(["a.*", "b"]));
    let row = &watched.json("/connz?subs=detail")["connections"][0];
    let detail =
        json!({ "account": "$G", "subject": "b", "qgroup": "g", "sid": "8", "msgs": 0, "cid": 1 });
    assert_eq!(row["subscriptions_list_detail"][1], detail);
}

/// As the reference does: stan.go names no connection, and sends an empty name.
#[test]
fn connz_leaves_out_what_is_empty() {
    let mut town = Town::new(1, |_| {});
    let peer = town.join(0);
    town.say(peer, "CONNECT {\"verbose\":false,\"name\":\"\",\"lang\":\"\",\"version\":\"1\"}\r\n");
    let watched = Watched::new(town);
    let row = &watched.json("/connz")["connections"][0];
    assert_eq!(row["version"], json!("1"));
    assert!(row.get("name").is_none() && row.get("lang").is_none(), "{row}");
}

#[test]
fn connz_finds_and_sorts() {
    let watched = with_connections();
    let numbers = |target: &str| -> Vec<u64> {
        let page = watched.json(target);
        let rows = page["connections"].as_array().unwrap();
        rows.iter().map(|row| row["cid"].as_u64().unwrap()).collect()
    };
    let (first, second) = (1, 2);
    assert_eq!(numbers("/connz?sort=msgs_to"), [first, second]);
    assert_eq!(numbers("/connz?sort=bytes_from"), [second, first]);
    assert_eq!(numbers("/connz?sort=subs"), [first, second]);
    assert_eq!(numbers("/connz?sort=last"), [second, first]);
    assert_eq!(numbers("/connz?sort=start"), [first, second]);
    assert_eq!(numbers("/connz?limit=1"), [first]);
    assert_eq!(numbers("/connz?limit=1&offset=1"), [second]);
    assert_eq!(numbers("/connz?offset=9"), [0_u64; 0]);
    assert_eq!(numbers("/connz?cid=2"), [second]);
    assert_eq!(numbers("/connz?user=bob"), [second]);
    let gone = watched.json("/connz?state=closed");
    assert_eq!(gone["connections"][0]["reason"], "Parse Error");
    assert!(gone["connections"][0].get("stop").is_some());
    assert_eq!(watched.json("/connz?state=all")["total"], 3);
    for (target, text) in [
        ("/connz?sort=x", "invalid sorting option: x\n"),
        ("/connz?sort=stop", "sort by stop only valid on closed connections\n"),
        ("/connz?limit=x", "Error decoding int for 'limit': \"x\" is no number\n"),
        ("/connz?auth=x", "Error decoding boolean for 'auth': \"x\" is no boolean\n"),
        ("/connz?state=x", "Error decoding state for x\n"),
    ] {
        assert_eq!(watched.text(target), (Status::BadRequest, text.to_owned()));
    }
}

#[test]
fn subsz_lists_what_a_subject_would_reach() {
    let mut town = Town::new(2, |_| {});
    let (one, other) = (town.enter(0), town.enter(1));
    town.say(one, "SUB a.* 1\r\nSUB b 2\r\n");
    town.say(other, "SUB a.b q 3\r\nSUB > 4\r\n");
    let watched = Watched::new(town);
    let page = watched.json("/subsz");
    has_all(
        &page,
        "num_subscriptions num_cache num_inserts num_removes num_matches cache_hit_rate max_fanout avg_fanout",
    );
    assert_eq!((&page["num_subscriptions"], &page["num_inserts"]), (&json!(4), &json!(4)));
    assert!(page.get("subscriptions_list").is_none());
    let found = |target: &str| {
        let page = watched.json(target);
        let rows = page["subscriptions_list"].as_array().cloned().unwrap_or_default();
        let sids = rows.iter().map(|row| row["sid"].as_str().unwrap().to_owned());
        (page["total"].as_u64().unwrap(), sids.collect::<Vec<_>>())
    };
    assert_eq!(found("/subsz?subs=1").0, 4);
    assert_eq!(found("/subscriptionsz?subs=1&test=a.b").1, ["1", "3", "4"]);
    assert_eq!(found("/subsz?subs=1&test=a.b&offset=1&limit=1"), (3, vec!["3".to_owned()]));
    assert_eq!(watched.get("/subsz?subs=1&test=a.*").status, Status::BadRequest);
}

/// A server with channels in all shards, a subscriber of each kind, and messages that wait.
fn streaming() -> Watched {
    let mut town = Town::new(2, |_| {});
    let me = town.client(0, "me");
    for number in 0..10 {
        for data in ["a", "b", "c"] {
            assert_eq!(town.store(me, "me", &format!("c{number}"), data), "");
        }
    }
    let requests = [
        ("c1", "in.plain", "", ""),
        ("c1", "in.durable", "dur", ""),
        ("c1", "in.queue", "", "group"),
        ("c2", "in.both", "dur", "group"),
    ];
    for (channel, inbox, durable_name, queue_group) in requests {
        let request = crate::stan::wire::SubscriptionRequest {
            durable_name,
            queue_group,
            ..from_first("me", channel, inbox)
        };
        let (inbox, got) = town.subscribe(me, &request);
        assert_eq!(got.len(), 2, "as many as may be in flight");
        if durable_name.is_empty() && queue_group.is_empty() {
            town.acknowledge(me, &inbox, channel, 1);
            assert_eq!(town.got(me).len(), 1);
        }
    }
    let away = town.client(1, "away");
    let request = crate::stan::wire::SubscriptionRequest {
        durable_name: "later",
        ..from_first("away", "c3", "in.away")
    };
    town.subscribe(away, &request);
    assert_eq!(town.close(away, "away"), "");
    town.store(me, "me", "bad.*", "refused");
    town.settle();
    Watched::new(town)
}

#[test]
fn serverz_and_storez_show_totals() {
    let watched = streaming();
    watched.advance(90_000);
    let page = watched.json("/streaming/serverz");
    assert_eq!(
        fields(&page).len(),
        19,
        "cluster_id server_id version go state now start_time uptime clients subscriptions channels total_msgs \
         total_bytes in_msgs in_bytes out_msgs out_bytes open_fds max_fds: {page}"
    );
    assert_eq!(
        (&page["cluster_id"], &page["state"]),
        (&json!("test-cluster"), &json!("STANDALONE"))
    );
    assert_eq!((&page["version"], &page["uptime"]), (&json!("1.2.3"), &json!("1m30s")));
    assert_eq!((&page["clients"], &page["channels"]), (&json!(1), &json!(10)));
    assert_eq!(page["subscriptions"], json!(5), "the one of the client that is away too");
    assert_eq!(page["total_msgs"], json!(30));
    assert_eq!(page["in_msgs"], json!(31), "the refused one too");
    assert!(page["out_msgs"].as_u64().unwrap() >= 11, "redeliveries too: {page}");
    assert_eq!((&page["open_fds"], &page["max_fds"]), (&json!(6), &json!(7)));
    let start: jiff::Timestamp = page["start_time"].as_str().unwrap().parse().unwrap();
    let now: jiff::Timestamp = page["now"].as_str().unwrap().parse().unwrap();
    assert_eq!(now.as_second() - start.as_second(), 90);

    let page = watched.json("/streaming/storez");
    assert_eq!((&page["type"], &page["total_msgs"]), (&json!("MEMORY"), &json!(30)));
    let limits = ChannelLimits::default();
    let expected = json!({
        "max_channels": 0,
        "max_msgs": limits.messages_max,
        "max_bytes": limits.bytes_max,
        "max_age": 0,
        "max_subscriptions": limits.subscriptions_max,
        "max_inactivity": 0,
    });
    assert_eq!(page["limits"], expected);
}

#[test]
fn channelsz_shows_channels_by_the_page() {
    let watched = streaming();
    let page = watched.json("/streaming/channelsz");
    let names: Vec<String> = (0..10).map(|number| format!("c{number}")).collect();
    assert_eq!(page["names"], json!(names), "in order, from all shards");
    let counts = ["offset", "limit", "count", "total"].map(|name| page[name].clone());
    assert_eq!(counts, [0, 1024, 10, 10].map(Value::from));
    for size in 1..=10 {
        let mut seen = Vec::new();
        for offset in (0..10).step_by(size) {
            let page = watched.json(&format!("/streaming/channelsz?limit={size}&offset={offset}"));
            assert_eq!(page["total"], json!(10));
            seen.extend(page["names"].as_array().unwrap().clone());
        }
        assert_eq!(json!(seen), json!(names), "pages of {size}");
    }
    let beyond = watched.json("/streaming/channelsz?offset=10");
    assert_eq!(beyond["count"], json!(0));
    let lenient = watched.json("/streaming/channelsz?limit=x&offset=-3");
    assert_eq!((&lenient["limit"], &lenient["offset"]), (&json!(1024), &json!(0)));

    let page = watched.json("/streaming/channelsz?subs=1&limit=3");
    assert!(page.get("names").is_none());
    let channels = page["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 3);
    let c1 = &channels[1];
    assert_eq!(*c1, watched.json("/streaming/channelsz?channel=c1&subs=1"), "alone as on a page");
    let numbers = ["msgs", "first_seq", "last_seq", "subs_count"].map(|name| c1[name].clone());
    assert_eq!(numbers, [3, 1, 3, 3].map(Value::from));
    assert!(c1["bytes"].as_u64().unwrap() > 3);
    let subscriptions = c1["subscriptions"].as_array().unwrap();
    let of = |inbox: &str| {
        let found = subscriptions.iter().find(|row| row["inbox"] == inbox);
        found.unwrap_or_else(|| panic!("{inbox} is not in {c1}")).clone()
    };
    let plain = of("in.plain");
    assert!(plain["ack_inbox"].as_str().unwrap().starts_with("_INBOX."), "{plain}");
    let shown = ["client_id", "is_durable", "is_offline", "max_inflight", "ack_wait", "last_sent"];
    let values = shown.map(|name| plain[name].clone());
    assert_eq!(values, [json!("me"), json!(false), json!(false), json!(2), json!(30), json!(3)]);
    assert_eq!((&plain["pending_count"], &plain["is_stalled"]), (&json!(2), &json!(true)));
    assert!(plain.get("durable_name").is_none() && plain.get("queue_name").is_none());
    let durable = of("in.durable");
    assert_eq!((&durable["durable_name"], &durable["is_durable"]), (&json!("dur"), &json!(true)));
    assert_eq!(of("in.queue")["queue_name"], "group");

    let offline = watched.json("/streaming/channelsz?channel=c3&subs=1");
    assert_eq!(offline["subscriptions"][0]["client_id"], "away");
    assert_eq!(offline["subscriptions"][0]["is_offline"], json!(true));
    assert!(watched.json("/streaming/channelsz?channel=c3").get("subscriptions").is_none());
    let missing = watched.text("/streaming/channelsz?channel=x");
    assert_eq!(missing, (Status::NotFound, "Channel x not found\n".to_owned()));
}

#[test]
fn clientsz_shows_clients_with_their_subscriptions() {
    let watched = streaming();
    let page = watched.json("/streaming/clientsz");
    let counts = ["offset", "limit", "count", "total"].map(|name| page[name].clone());
    assert_eq!(counts, [0, 1024, 1, 1].map(Value::from));
    let row = json!({ "id": "me", "hb_inbox": "hb.me.0", "subs_count": 4 });
    assert_eq!(page["clients"], json!([row]));
    assert_eq!(watched.json("/streaming/clientsz?client=me"), row);
    let detailed = watched.json("/streaming/clientsz?subs=1");
    assert_eq!(detailed["clients"][0], watched.json("/streaming/clientsz?client=me&subs=1"));
    let subscriptions = &detailed["clients"][0]["subscriptions"];
    assert_eq!(subscriptions["c1"].as_array().unwrap().len(), 3);
    assert_eq!(subscriptions["c2"][0]["queue_name"], "dur:group");
    let gone = watched.text("/streaming/clientsz?client=away");
    assert_eq!(gone, (Status::NotFound, "Client away not found\n".to_owned()));
}

#[test]
fn metrics_are_prometheus_text() {
    let watched = streaming();
    let response = watched.get("/metrics");
    assert_eq!(response.content_type, "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(response.body).unwrap();
    for line in [
        "# TYPE weirlog_published_messages_total counter",
        "weirlog_published_messages_total 31",
        "# TYPE weirlog_stored_messages gauge",
        "weirlog_stored_messages 30.0",
        "weirlog_channels 10.0",
        "weirlog_acked_messages_total 1",
        "weirlog_history_reads_total 0",
        "weirlog_failed_shards 0.0",
        "# TYPE weirlog_commit_duration_seconds histogram",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    let number = |name: &str| -> f64 {
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let commits = number("weirlog_commit_records_count");
    assert!(commits > 10.0 && number("weirlog_commit_records_sum") >= 30.0);
    assert_eq!(number("weirlog_commit_records_bucket{le=\"+Inf\"}"), commits);
    assert_eq!(number("weirlog_commit_duration_seconds_bucket{le=\"+Inf\"}"), commits);
    assert!(!text.contains("weirlog_channel_messages"), "only on request");

    let text = String::from_utf8(watched.get("/metrics?channels=1&limit=2").body).unwrap();
    assert!(text.contains("weirlog_channel_messages{channel=\"c1\"} 3.0\n"), "{text}");
    assert!(!text.contains("channel=\"c2\""), "the page ends before");
    let lag = "weirlog_subscription_lag_messages{channel=\"c1\",client_id=\"me\",inbox=\"in.durable\",\
               durable_name=\"dur\",queue_name=\"\",is_durable=\"true\",is_offline=\"false\"} 1.0\n";
    assert!(text.contains(lag), "{text}");
    assert_eq!(watched.get("/metrics?channels=x").status, Status::BadRequest);
}

#[test]
fn other_pages_are_as_tools_expect_them() {
    let watched = streaming();
    assert_eq!(watched.text("/healthz").1, "{\"status\":\"ok\"}");
    let routes = watched.json("/routez");
    assert_eq!((&routes["num_routes"], &routes["routes"]), (&json!(0), &json!([])));
    assert_eq!(watched.text("/streaming/isFTActive"), (Status::NoContent, String::new()));
    assert_eq!(watched.text("/nothing"), (Status::NotFound, "404 page not found\n".to_owned()));
    assert_eq!(watched.get("/").content_type, "text/html; charset=utf-8");
    assert!(watched.text("/streaming").1.contains("href=\"streaming/serverz\""));
    assert!(watched.text("/streaming/").1.contains("href=\"serverz\""));
    let called = watched.text("/streaming/channelsz?callback=show").1;
    assert!(called.starts_with("show({") && called.ends_with("})"), "{called}");

    let mut based = watched;
    based.pages = Pages::new(Site { base_path: "/base".to_owned(), ..Site::default() });
    assert_eq!(based.get("/base/varz").status, Status::Ok);
    assert_eq!(based.get("/base").status, Status::Ok);
    assert_eq!(based.get("/varz").status, Status::NotFound);
}
