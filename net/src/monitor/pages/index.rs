//! The pages that lead to the others.

use crate::monitor::http::{HTML, Response, Status};

const NATS: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><title>Weirlog</title></head>
<body>
<h1>Weirlog</h1>
<ul>
<li><a href=\"varz\">General</a></li>
<li><a href=\"connz\">Connections</a></li>
<li><a href=\"subsz\">Subscriptions</a></li>
<li><a href=\"routez\">Routes</a></li>
<li><a href=\"healthz\">Health</a></li>
<li><a href=\"metrics\">Metrics for Prometheus</a></li>
<li><a href=\"streaming\">NATS Streaming</a></li>
</ul>
</body>
</html>
";

const STREAMING: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><title>Weirlog: NATS Streaming</title></head>
<body>
<h1>NATS Streaming</h1>
<ul>
<li><a href=\"PREFIXserverz\">Server</a></li>
<li><a href=\"PREFIXstorez\">Store</a></li>
<li><a href=\"PREFIXclientsz\">Clients</a></li>
<li><a href=\"PREFIXchannelsz\">Channels</a></li>
</ul>
</body>
</html>
";

pub(super) fn nats() -> Response {
    html(NATS.to_owned())
}

/// Links are relative to the page, which has a slash at its end or not.
pub(super) fn streaming(path: &str) -> Response {
    let prefix = if path.ends_with('/') { "" } else { "streaming/" };
    html(STREAMING.replace("PREFIX", prefix))
}

fn html(text: String) -> Response {
    Response { status: Status::Ok, content_type: HTML, body: text.into_bytes() }
}
