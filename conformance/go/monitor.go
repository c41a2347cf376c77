// Monitoring over HTTP, as exporters and dashboards read it. Run against the reference too: the checks say what both do.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/stan.go"
)

// monitorPort is chosen before the server starts: it is one of its flags.
var monitorPort = freePort()

func monitorFlags() []string { return []string{"-m", fmt.Sprint(monitorPort)} }

// page gets a page and its status.
func page(target string) (int, string, http.Header) {
	client := http.Client{Timeout: patience}
	response, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", monitorPort, target))
	must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(err)
	return response.StatusCode, string(body), response.Header
}

type object = map[string]any

// shown gets a page of JSON.
func shown(target string) object {
	status, body, header := page(target)
	if status != http.StatusOK || header.Get("Content-Type") != "application/json" {
		fail("%s: status %d, type %s", target, status, header.Get("Content-Type"))
	}
	if header.Get("Access-Control-Allow-Origin") != "*" {
		fail("%s: no Access-Control-Allow-Origin", target)
	}
	var found object
	must(json.Unmarshal([]byte(body), &found))
	return found
}

// has fails unless the fields are there with these values; nil: any.
func has(where string, found object, wanted object) {
	for name, value := range wanted {
		got, ok := found[name]
		if !ok {
			fail("%s: no %s in %v", where, name, found)
		}
		if value != nil && fmt.Sprint(got) != fmt.Sprint(value) {
			fail("%s: %s is %v, not %v", where, name, got, value)
		}
	}
}

func monitor(t *suite, s *server) {
	c := s.connect("watched")
	const channel = "watched.one"
	c.publish(channel, 1, 10)
	subscribe := func(options ...stan.SubscriptionOption) {
		_, err := c.Subscribe(channel, func(*stan.Msg) {}, append(options, stan.DeliverAllAvailable(), stan.SetManualAckMode(), stan.MaxInflight(3))...)
		must(err)
	}
	subscribe()
	subscribe(stan.DurableName("mark"))
	_, err := c.QueueSubscribe(channel, "workers", func(*stan.Msg) {}, stan.DeliverAllAvailable())
	must(err)
	_, err = c.QueueSubscribe(channel, "workers", func(*stan.Msg) {}, stan.DurableName("kept"), stan.DeliverAllAvailable())
	must(err)
	away := s.connect("away")
	_, err = away.Subscribe(channel, func(*stan.Msg) {}, stan.DurableName("later"))
	must(err)
	_, err = away.QueueSubscribe(channel, "left", func(*stan.Msg) {}, stan.DurableName("kept"))
	must(err)
	must(away.Close())

	t.check("serverz counts", func() {
		eventually("all is delivered", func() bool { return shown("/streaming/serverz")["out_msgs"] == 26.0 })
		found := shown("/streaming/serverz")
		has("serverz", found, object{"cluster_id": clusterID, "server_id": nil, "version": nil, "go": nil, "state": "STANDALONE",
			"now": nil, "start_time": nil, "uptime": nil, "clients": 1, "subscriptions": 6, "channels": 1, "total_msgs": 10,
			"total_bytes": nil, "in_msgs": 10, "in_bytes": nil, "out_bytes": nil, "open_fds": nil, "max_fds": nil})
		if _, err := time.Parse(time.RFC3339Nano, found["now"].(string)); err != nil {
			fail("now: %v", err)
		}
	})

	t.check("storez shows the store and its limits", func() {
		found := shown("/streaming/storez")
		has("storez", found, object{"cluster_id": clusterID, "type": "FILE", "total_msgs": 10, "limits": nil})
		has("limits", found["limits"].(object), object{"max_channels": 0, "max_msgs": 0, "max_bytes": 0, "max_age": 0,
			"max_subscriptions": 1000, "max_inactivity": 0})
	})

	t.check("clientsz shows clients with their subscriptions", func() {
		has("clientsz", shown("/streaming/clientsz"), object{"offset": 0, "limit": 1024, "count": 1, "total": 1})
		has("clientsz", shown("/streaming/clientsz?limit=3&offset=2"), object{"offset": 2, "limit": 3, "count": 0, "total": 1})
		found := shown("/streaming/clientsz?client=watched&subs=1")
		has("client", found, object{"id": "watched", "hb_inbox": nil, "subs_count": 4})
		if subs := found["subscriptions"].(object)[channel].([]any); len(subs) != 4 {
			fail("%d subscriptions", len(subs))
		}
		status, body, _ := page("/streaming/clientsz?client=nobody")
		if status != 404 || body != "Client nobody not found\n" {
			fail("status %d: %q", status, body)
		}
	})

	t.check("channelsz shows channels with their subscriptions", func() {
		found := shown("/streaming/channelsz")
		has("channelsz", found, object{"offset": 0, "limit": 1024, "count": 1, "total": 1, "names": "[" + channel + "]"})
		found = shown("/streaming/channelsz?channel=" + channel + "&subs=1")
		has("channel", found, object{"name": channel, "msgs": 10, "bytes": nil, "first_seq": 1, "last_seq": 10, "subs_count": 6})
		byName := map[string]object{}
		for _, one := range found["subscriptions"].([]any) {
			sub := one.(object)
			name := func(field string) string {
				if text, ok := sub[field].(string); ok {
					return text
				}
				return ""
			}
			byName[name("durable_name")+"/"+name("queue_name")] = sub
		}
		stalled := object{"client_id": "watched", "inbox": nil, "ack_inbox": nil, "is_durable": false, "is_offline": false,
			"max_inflight": 3, "ack_wait": 30, "last_sent": 3, "pending_count": 3, "is_stalled": true}
		has("plain", byName["/"], stalled)
		stalled["is_durable"] = true
		has("durable", byName["mark/"], stalled)
		has("queue", byName["/workers"], object{"is_durable": false, "pending_count": 0, "is_stalled": false, "last_sent": 10})
		has("durable queue", byName["/kept:workers"], object{"is_durable": true, "is_offline": false})
		has("offline", byName["later/"], object{"client_id": "away", "is_durable": true, "is_offline": true})
		has("shadow", byName["/kept:left"], object{"client_id": "away", "is_durable": true, "is_offline": true})
		page, ok := shown("/streaming/channelsz?subs=1")["channels"].([]any)
		if !ok || len(page) != 1 {
			fail("no channels on the page")
		}
	})

	t.check("a page can be called back", func() {
		status, body, header := page("/streaming/serverz?callback=show")
		if status != 200 || header.Get("Content-Type") != "application/javascript" || !strings.HasPrefix(body, "show({") || !strings.HasSuffix(body, "})") {
			fail("status %d, type %s: %q", status, header.Get("Content-Type"), body)
		}
	})

	t.check("the pages of the NATS part are there", func() {
		has("varz", shown("/varz"), object{"server_id": nil, "server_name": nil, "version": nil, "go": nil, "host": nil, "port": s.port,
			"max_connections": nil, "max_payload": nil, "ping_interval": nil, "mem": nil, "cores": nil, "cpu": nil,
			"connections": nil, "total_connections": nil, "routes": 0, "remotes": 0, "leafnodes": 0, "in_msgs": nil, "out_msgs": nil,
			"in_bytes": nil, "out_bytes": nil, "slow_consumers": 0, "subscriptions": nil, "uptime": nil, "start": nil, "now": nil,
			"http_port": monitorPort, "http_req_stats": nil})
		found := shown("/connz?subs=1")
		has("connz", found, object{"num_connections": nil, "total": nil, "offset": 0, "limit": 1024})
		for _, one := range found["connections"].([]any) {
			has("connection", one.(object), object{"cid": nil, "kind": "Client", "ip": "127.0.0.1", "port": nil, "start": nil,
				"last_activity": nil, "uptime": nil, "idle": nil, "pending_bytes": nil, "in_msgs": nil, "out_msgs": nil,
				"in_bytes": nil, "out_bytes": nil, "subscriptions": nil, "lang": "go", "version": nil})
			if name, ok := one.(object)["name"]; ok && name == "" {
				fail("a connection without a name has an empty one")
			}
		}
		has("subsz", shown("/subsz"), object{"num_subscriptions": nil, "num_cache": nil, "num_inserts": nil, "num_removes": nil,
			"num_matches": nil, "cache_hit_rate": nil, "max_fanout": nil, "avg_fanout": nil})
		has("routez", shown("/routez"), object{"num_routes": 0, "routes": "[]"})
		has("healthz", shown("/healthz"), object{"status": "ok"})
		status, body, _ := page("/connz?sort=x")
		if status != 400 || strings.TrimSpace(body) != "invalid sorting option: x" {
			fail("status %d: %q", status, body)
		}
	})

	t.checkBeyondReference("metrics for Prometheus", func() {
		status, body, _ := page("/metrics?channels=1")
		if status != 200 {
			fail("status %d", status)
		}
		for _, line := range []string{
			"weirlog_published_messages_total 10\n",
			"weirlog_stored_messages 10.0\n",
			"# TYPE weirlog_commit_duration_seconds histogram\n",
			"weirlog_channel_messages{channel=\"" + channel + "\"} 10.0\n",
		} {
			if !strings.Contains(body, line) {
				fail("no %q in %s", line, body)
			}
		}
	})
	c.leave()
}
