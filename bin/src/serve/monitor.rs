//! Where monitoring is served, and what its pages say that no core knows.

use weirlog_engine::types::Now;
use weirlog_net::front::monitor::{MonitorPort, Site};

use super::addresses::Addresses;
use super::error::ServeError;
use crate::args::{ListenAddress, Options, StoreKind};

/// The ports of monitoring, with its pages' settings.
#[derive(Debug, Clone)]
pub(super) struct MonitorPlan {
    pub(super) site: Site,
    pub(super) ports: Vec<MonitorPort>,
}

impl MonitorPlan {
    /// What was asked for; none: nothing.
    pub(super) fn find(
        options: &Options,
        addresses: &mut Addresses,
        started_at: Now,
    ) -> Result<Option<Self>, ServeError> {
        let monitor = &options.monitor;
        if monitor.https.is_some() && options.tls.is_none() {
            return Err(ServeError::MonitorWithoutTls);
        }
        let mut port = |listen: &Option<ListenAddress>, is_tls| {
            let address = listen.as_ref().map(|listen| addresses.claim(listen)).transpose()?;
            Ok::<_, ServeError>(address.map(|address| MonitorPort { address, is_tls }))
        };
        let (http, https) = (port(&monitor.http, false)?, port(&monitor.https, true)?);
        let site = Site {
            started_at,
            version: env!("CARGO_PKG_VERSION"),
            // Not asked on a core's thread, which has one to itself.
            processors_count: std::thread::available_parallelism().map_or(1, usize::from),
            is_durable: options.store == StoreKind::File,
            directory: (options.store == StoreKind::File).then(|| options.directory.clone()),
            http: http.map(|port| port.address.into()),
            https: https.map(|port| port.address.into()),
            base_path: monitor.base_path.clone(),
        };
        let ports: Vec<MonitorPort> = http.into_iter().chain(https).collect();
        Ok((!ports.is_empty()).then_some(Self { site, ports }))
    }

    /// Where the pages are.
    pub(super) fn urls(&self) -> Vec<String> {
        let url = |port: &MonitorPort| {
            let scheme = if port.is_tls { "https" } else { "http" };
            format!("{scheme}://{}{}", port.address, self.site.base_path)
        };
        self.ports.iter().map(url).collect()
    }
}
