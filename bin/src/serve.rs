//! Runs the server: one pinned executor a core, each with its shards and connections; a listener on the first hands
//! accepted sockets to the cores in turn. SIGTERM and SIGINT end it after what is open is committed; SIGHUP reads the
//! configuration again.
//!
//! The order of a start: lock the directory, open the store, recover the shards of all cores, exchange clients, end
//! what belongs to nobody, and only then listen.

mod entrance;
mod error;
mod pid_file;
mod reload;
mod settings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use glommio::channels::shared_channel::{self, ConnectedSender, SharedReceiver, SharedSender};
use glommio::net::{AcceptedTcpStream, TcpListener};
use glommio::{CpuSet, ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use weirlog_engine::disk::Disk;
use weirlog_engine::disk::dma::{DmaDisk, GlommioRuntime};
use weirlog_engine::disk::lock::{DirectoryLock, lock_directory};
use weirlog_engine::disk::memory::MemoryDisk;
use weirlog_engine::error::OpenError;
use weirlog_engine::runtime::Runtime as _;
use weirlog_engine::storage::{ChannelSlots, Storage, StorageConfig, StoreInfo, open_store};
use weirlog_engine::types::{ShardId, Timestamp};
use weirlog_net::config::NetConfig;
use weirlog_net::core::{Core, Notice, RuntimeSettings};
use weirlog_net::front::Front;
use weirlog_net::ids::CoreId;
use weirlog_net::interest::CoreSet;
use weirlog_net::mesh::{MeshEnds, connected, make_ends};

use crate::args::{Options, StoreKind};
use crate::banner::{Running, ready_line};
use crate::log::Log;
use entrance::Entrance;
use error::ServeError;
use pid_file::PidFile;
use reload::Reloader;

/// Under load an executor looks for completions at least this often. glommio 0.9.0 goes to sleep with tasks to run if
/// its thread loses the processor for longer than this between two instructions of its loop: with 1 ms that was seen
/// in about one run of ten on a loaded machine.
const PREEMPT_TIMER: Duration = Duration::from_millis(10);
/// An executor that fell asleep like that wakes after this. Ten wake-ups a second cost 1 ms of processor time.
const TICK_INTERVAL: Duration = Duration::from_millis(100);
/// glommio registers this much memory on three rings of each executor; registering more gains nothing.
const REGISTERED_MEMORY_BYTES: usize = 1 << 20;
/// Operations in one ring.
const RING_DEPTH: usize = 256;
/// How soon a signal is seen: no more often, for an idle server sleeps.
const SIGNAL_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// After a failed accept (no descriptors left) the listener waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Sockets on their way to a core.
const HANDOFF_COUNT: usize = 1024;

/// What a core tells the thread that started it.
enum CoreEvent {
    Listening,
    Failed(ServeError),
}

/// What the listener's core tells another.
enum Handoff {
    Socket(AcceptedTcpStream),
    Stop,
}

/// What one core is started with.
struct Seat {
    own: CoreId,
    core_count: u16,
    directory: Option<PathBuf>,
    info: StoreInfo,
    storage: StorageConfig,
    net: NetConfig,
    slots: ChannelSlots,
    mesh: MeshEnds,
    duty: Duty,
    events: Sender<CoreEvent>,
    log: Log,
}

/// How a core comes to its connections.
enum Duty {
    /// It listens, and hands sockets on.
    Lead {
        entrance: Entrance,
        others: Vec<SharedSender<Handoff>>,
        is_stopping: Arc<AtomicBool>,
        changes: Receiver<Arc<RuntimeSettings>>,
    },
    /// It gets them from the one that listens.
    Receive(SharedReceiver<Handoff>),
}

/// Runs the server until a signal ends it.
pub(crate) fn serve(options: &Options) -> Result<(), ServeError> {
    run_until_signal(options).map_err(|error| match error {
        ServeError::Open { error, .. } if options.store == StoreKind::File => {
            ServeError::Open { directory: Some(options.directory.clone()), error }
        }
        other => other,
    })
}

fn run_until_signal(options: &Options) -> Result<(), ServeError> {
    let log = Log::new(std::process::id(), options.log);
    abort_on_panic();
    let entrance = Entrance::find(options)?;
    let (_lock, directory) = lock(options)?;
    let storage = settings::storage_config(options, settings::random_bits())?;
    let info = open_shared(directory.as_deref(), &storage)?;
    let core_count = core_count(options, info.shard_count);
    let is_stopping = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| ServeError::Signals(error.to_string()))?;
    let _pid_file = PidFile::write(options.pid_file.as_deref())?;
    let (events, inbox) = channel();
    let (settings, changes) = channel();
    let shard_count = info.shard_count;
    let seats = seats(
        &SeatPlan {
            core_count,
            entrance: entrance.clone(),
            directory,
            info,
            storage,
            net: entrance.net_config(options, shard_count),
            is_stopping: is_stopping.clone(),
            events,
            log,
        },
        changes,
    );
    let mut threads = Vec::with_capacity(seats.len());
    for seat in seats {
        threads.push(spawn(seat)?);
    }
    if !wait_until_listening(&inbox, &mut signals)? {
        // Nothing was promised to anybody yet.
        return Ok(());
    }
    let running = Running {
        entrance: entrance.to_string(),
        shard_count,
        core_count: usize::from(core_count),
    };
    log.info(wall_time(), ready_line(options, &running));
    let reloader = Reloader { started: options, entrance, shard_count, settings, log };
    for signal in signals.forever() {
        if signal != SIGHUP {
            log.info(wall_time(), "Shutting down");
            break;
        }
        reloader.reload();
    }
    is_stopping.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|error| ServeError::Executor(error.to_string()))?;
    }
    Ok(())
}

/// A core that panics has broken a promise; the others must not go on without it.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        std::process::abort();
    }));
}

/// Takes the data directory for this process; none for the memory store.
fn lock(options: &Options) -> Result<(Option<DirectoryLock>, Option<PathBuf>), ServeError> {
    match options.store {
        StoreKind::Memory => Ok((None, None)),
        StoreKind::File => {
            let lock = lock_directory(&options.directory)?;
            Ok((Some(lock), Some(options.directory.clone())))
        }
    }
}

/// Opens what all shards share, before any core runs.
fn open_shared(directory: Option<&Path>, config: &StorageConfig) -> Result<StoreInfo, ServeError> {
    let executor = builder(Placement::Unbound)
        .make()
        .map_err(|error| ServeError::Executor(error.to_string()))?;
    let opened = executor.run(async {
        match directory {
            Some(directory) => {
                let disk = DmaDisk::new(directory).await?;
                open_store(&disk, config).await
            }
            None => open_store(&MemoryDisk::default(), config).await,
        }
    });
    Ok(opened?)
}

/// Cores at work: never more than shards, or some would have none. Without a wish, all processors but one, which is
/// left to the kernel's network and disk work and to clients on the machine: on 2 processors one core serves more than
/// two do.
fn core_count(options: &Options, shard_count: u16) -> u16 {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = options.cores.unwrap_or(available.saturating_sub(1));
    u16::try_from(wanted).unwrap_or(u16::MAX).clamp(1, shard_count.min(CoreSet::CORES_MAX))
}

/// What is common to all seats.
struct SeatPlan {
    core_count: u16,
    entrance: Entrance,
    directory: Option<PathBuf>,
    info: StoreInfo,
    storage: StorageConfig,
    net: NetConfig,
    is_stopping: Arc<AtomicBool>,
    events: Sender<CoreEvent>,
    log: Log,
}

fn seats(plan: &SeatPlan, changes: Receiver<Arc<RuntimeSettings>>) -> Vec<Seat> {
    let slots = ChannelSlots::new(plan.storage.channels_max);
    let mut others = Vec::new();
    let mut duties = Vec::new();
    for _ in 1..plan.core_count {
        let (sender, receiver) = shared_channel::new_bounded(HANDOFF_COUNT);
        others.push(sender);
        duties.push(Duty::Receive(receiver));
    }
    let is_stopping = plan.is_stopping.clone();
    duties.insert(0, Duty::Lead { entrance: plan.entrance.clone(), others, is_stopping, changes });
    let ends = make_ends(plan.core_count);
    (0..plan.core_count)
        .zip(ends)
        .zip(duties)
        .map(|((own, mesh), duty)| Seat {
            own: CoreId(own),
            core_count: plan.core_count,
            directory: plan.directory.clone(),
            info: plan.info.clone(),
            storage: plan.storage.clone(),
            net: plan.net.clone(),
            slots: slots.clone(),
            mesh,
            duty,
            events: plan.events.clone(),
            log: plan.log,
        })
        .collect()
}

fn builder(placement: Placement) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(placement)
        .preempt_timer(PREEMPT_TIMER)
        .io_memory(REGISTERED_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
}

/// The processor for a core, if this process may choose among all of them.
fn placement(core: CoreId) -> Placement {
    let Ok(processors) = CpuSet::online() else { return Placement::Unbound };
    let mut numbers: Vec<usize> = processors.into_iter().map(|location| location.cpu).collect();
    numbers.sort_unstable();
    let may_choose =
        std::thread::available_parallelism().is_ok_and(|count| usize::from(count) >= numbers.len());
    match numbers.get(usize::from(core.0) % numbers.len().max(1)) {
        Some(number) if may_choose => Placement::Fixed(*number),
        _ => Placement::Unbound,
    }
}

fn spawn(seat: Seat) -> Result<ExecutorJoinHandle<()>, ServeError> {
    let own = seat.own;
    builder(placement(own))
        .name(&format!("weirlog-{own}"))
        .spawn(move || async move {
            glommio::spawn_local(async {
                loop {
                    GlommioRuntime.sleep(TICK_INTERVAL).await;
                }
            })
            .detach();
            let events = seat.events.clone();
            let result = match seat.directory.clone() {
                Some(directory) => match DmaDisk::new(&directory).await {
                    Ok(disk) => run(disk, seat).await,
                    Err(error) => Err(OpenError::from(error).into()),
                },
                None => run_in_memory(seat).await,
            };
            if let Err(error) = result {
                // Nobody listens only if the process is about to end.
                let _ = events.send(CoreEvent::Failed(error));
            }
        })
        .map_err(|error| ServeError::Executor(error.to_string()))
}

/// Returns whether the server listens; if not, a signal came first. Recovery may take its time.
fn wait_until_listening(
    inbox: &Receiver<CoreEvent>,
    signals: &mut Signals,
) -> Result<bool, ServeError> {
    loop {
        match inbox.recv_timeout(SIGNAL_POLL_INTERVAL) {
            Ok(CoreEvent::Listening) => return Ok(true),
            Ok(CoreEvent::Failed(error)) => return Err(error),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(ServeError::Executor("all executors have ended".to_owned()));
            }
            Err(RecvTimeoutError::Timeout) => {
                if signals.pending().any(|signal| signal != SIGHUP) {
                    return Ok(false);
                }
            }
        }
    }
}

/// Each core has a memory disk of its own, with its own copy of what all shards share.
async fn run_in_memory(seat: Seat) -> Result<(), ServeError> {
    let disk = MemoryDisk::default();
    open_store(&disk, &seat.storage).await?;
    run(disk, seat).await
}

/// One core, from recovery to the end.
async fn run<D: Disk>(disk: D, seat: Seat) -> Result<(), ServeError> {
    let Seat { own, core_count, log, .. } = seat;
    let shards: Vec<ShardId> = (0..seat.info.shard_count)
        .filter(|shard| shard % core_count == own.0)
        .map(ShardId)
        .collect();
    let runtime = GlommioRuntime;
    let storage =
        Storage::open(disk, runtime, &seat.info, &seat.storage, seat.slots, &shards).await?;
    tell_recovery(log, &storage);
    let seed = seat.storage.seed.wrapping_add(u64::from(own.0) + 1);
    let core = Core::new(seat.net, own, core_count, storage, seed);
    let front = Front::new(core, runtime, Box::new(move |notice| tell(log, &notice)));
    let (mesh, incoming) = seat.mesh.connect().await;
    front.start(mesh, incoming).await;
    match seat.duty {
        Duty::Lead { entrance, others, is_stopping, changes } => {
            let others = begin(&front, entrance, others, &seat.events).await?;
            lead(&front, &others, &is_stopping, &changes).await;
        }
        Duty::Receive(receiver) => {
            let receiver = connected(receiver.connect()).await;
            while let Some(Handoff::Socket(socket)) = receiver.recv().await {
                front.accept(socket);
            }
        }
    }
    front.stop().await;
    Ok(())
}

/// Lets clients come in. Returns the ways to the other cores.
async fn begin<D: Disk>(
    front: &Rc<Front<D, GlommioRuntime>>,
    entrance: Entrance,
    others: Vec<SharedSender<Handoff>>,
    events: &Sender<CoreEvent>,
) -> Result<Vec<Rc<ConnectedSender<Handoff>>>, ServeError> {
    let mut senders = Vec::with_capacity(others.len());
    for sender in others {
        senders.push(Rc::new(connected(sender.connect()).await));
    }
    match entrance {
        Entrance::Port { address, .. } => listen(front.clone(), address, senders.clone())?,
        Entrance::Upstreams(servers) => {
            front.join_upstream(servers).await.map_err(ServeError::Join)?;
        }
    }
    let _ = events.send(CoreEvent::Listening);
    Ok(senders)
}

/// Hands changes of the settings to the cores until the process shall stop.
async fn lead<D: Disk>(
    front: &Rc<Front<D, GlommioRuntime>>,
    others: &[Rc<ConnectedSender<Handoff>>],
    is_stopping: &AtomicBool,
    changes: &Receiver<Arc<RuntimeSettings>>,
) {
    while !is_stopping.load(Ordering::Relaxed) {
        for settings in changes.try_iter() {
            front.reload(&settings);
        }
        GlommioRuntime.sleep(SIGNAL_POLL_INTERVAL).await;
    }
    for sender in others {
        // A full channel: the core is so busy that its sockets die with the process.
        let _ = sender.try_send(Handoff::Stop);
        sender.close();
    }
}

/// Begins to accept connections, and hands them to the cores in turn.
fn listen<D: Disk>(
    front: Rc<Front<D, GlommioRuntime>>,
    address: SocketAddr,
    targets: Vec<Rc<ConnectedSender<Handoff>>>,
) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address).map_err(|error| ServeError::Listen {
        host: address.ip().to_string(),
        port: address.port(),
        reason: error.to_string(),
    })?;
    glommio::spawn_local(async move {
        let mut turn = 0;
        loop {
            let Ok(socket) = listener.shared_accept().await else {
                GlommioRuntime.sleep(ACCEPT_PAUSE).await;
                continue;
            };
            match targets.get(turn) {
                Some(target) => {
                    if target.send(Handoff::Socket(socket)).await.is_err() {
                        break;
                    }
                }
                None => front.accept(socket),
            }
            turn = (turn + 1) % (targets.len() + 1);
        }
    })
    .detach();
    Ok(())
}

fn tell_recovery<D: Disk>(log: Log, storage: &Storage<D, GlommioRuntime>) {
    let report = storage.report();
    if report.cut_frames > 0 {
        let text = format!("Cut {} batches that were never acknowledged", report.cut_frames);
        log.info(wall_time(), text);
    }
    for damage in &report.damage {
        let text = format!(
            "Damage in shard {}, segment {}: {}; channel {:?} lost messages {} to {}",
            damage.shard, damage.segment, damage.what, damage.name, damage.first, damage.last
        );
        log.error(wall_time(), text);
    }
}

fn tell(log: Log, notice: &Notice) {
    match notice {
        Notice::SlowConsumer { number, client_ip, pending_bytes } => log.warning(
            wall_time(),
            format!("Slow consumer: connection {number} of {client_ip} closed, {pending_bytes} bytes waited for it"),
        ),
        Notice::ClientTimedOut { client_id } => {
            log.info(wall_time(), format!("[Client:{client_id}] Timed out on heartbeats"));
        }
        Notice::HandshakeFailed { client_ip, reason } => {
            log.error(wall_time(), format!("TLS handshake with {client_ip} failed: {reason}"));
        }
        Notice::UpstreamError { text } => {
            log.error(wall_time(), format!("NATS server: {text}"));
        }
        Notice::UpstreamJoined => log.info(wall_time(), "Joined a NATS server"),
        Notice::UpstreamLost => {
            log.warning(wall_time(), "Lost the connection to the NATS server, trying to join it again");
        }
        Notice::LogFinished { shard, reason } => {
            log.error(wall_time(), format!("Shard {shard} takes no more messages until a restart: {reason}"));
        }
    }
}

fn wall_time() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
