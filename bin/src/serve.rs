//! Runs the server: one pinned executor a core, each with its shards and connections; a listener on the first hands
//! accepted sockets to the cores in turn. Signals end it: see [`supervisor`].
//!
//! The order of a start: lock the directory, open the store, recover the shards of all cores, exchange clients, end
//! what belongs to nobody, and only then listen.

mod addresses;
mod course;
mod entrance;
mod error;
mod monitor;
mod pid_file;
mod ports_file;
mod reload;
mod settings;
mod supervisor;
mod telling;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use glommio::channels::shared_channel::{self, ConnectedSender, SharedReceiver, SharedSender};
use glommio::net::{AcceptedTcpStream, TcpListener};
use glommio::{CpuSet, ExecutorJoinHandle, Placement, Task};
use weirlog_engine::disk::Disk;
use weirlog_engine::disk::dma::{DmaDisk, GlommioRuntime};
use weirlog_engine::disk::lock::{DirectoryLock, lock_directory};
use weirlog_engine::disk::memory::MemoryDisk;
use weirlog_engine::error::OpenError;
use weirlog_engine::runtime::Runtime as _;
use weirlog_engine::storage::{ChannelSlots, Storage, StorageConfig, StoreInfo, open_store};
use weirlog_engine::types::ShardId;
use weirlog_net::config::NetConfig;
use weirlog_net::core::{Core, RuntimeSettings};
use weirlog_net::front::Front;
use weirlog_net::ids::CoreId;
use weirlog_net::interest::CoreSet;
use weirlog_net::mesh::{MeshEnds, connected, make_ends};

use crate::args::{Options, StoreKind};
use crate::banner::{Running, ready_line};
use crate::descriptors;
use crate::executor::{self, execute};
use crate::log::Log;
use addresses::Addresses;
use course::{Course, Phase};
use entrance::Entrance;
use error::ServeError;
use monitor::MonitorPlan;
use pid_file::PidFile;
use ports_file::PortsFile;
use reload::Reloader;
use supervisor::{End, Event, Start, Supervisor, abort_on_panic, hear_signals};
use telling::{tell, tell_recovery, wall_time};

/// How soon a change of course is seen: no more often, for an idle server sleeps.
const COURSE_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// After a failed accept (no descriptors left) the listener waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Sockets on their way to a core.
const HANDOFF_COUNT: usize = 1024;

/// What the listener's core tells another.
enum Handoff {
    Socket(AcceptedTcpStream),
    LameDuck,
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
    course: Course,
    events: Sender<Event>,
    log: Log,
}

/// How a core comes to its connections.
enum Duty {
    /// It listens, and hands sockets on.
    Lead(Box<Lead>),
    /// It gets them from the one that listens.
    Receive(SharedReceiver<Handoff>),
}

/// What the core that listens has to do.
struct Lead {
    entrance: Entrance,
    monitor: Option<MonitorPlan>,
    others: Vec<SharedSender<Handoff>>,
    /// Settings that were read again.
    changes: Receiver<Arc<RuntimeSettings>>,
}

/// Runs the server until a signal ends it.
pub(crate) fn serve(options: &Options) -> Result<(), ServeError> {
    let (log, _log_thread) = Log::start(std::process::id(), &options.log)
        .map_err(|error| ServeError::Log(error.to_string()))?;
    for text in settings::contradictions(options) {
        log.warning(wall_time(), text);
    }
    if let Err(error) = descriptors::allow_most() {
        log.warning(wall_time(), format!("The limit of open files stays as it is: {error}"));
    }
    let result = run_until_signal(options, &log).map_err(|error| match error {
        ServeError::Open { error, .. } if options.store == StoreKind::File => {
            ServeError::Open { directory: Some(options.directory.clone()), error }
        }
        other => other,
    });
    // Standard error gets it from `main`.
    if let Err(error) = &result
        && (options.log.file.is_some() || options.log.syslog.is_some())
    {
        log.fatal(wall_time(), format!("Failed to start: {error}"));
    }
    result
}

fn run_until_signal(options: &Options, log: &Log) -> Result<(), ServeError> {
    abort_on_panic();
    let started_at = GlommioRuntime.now();
    let mut addresses = Addresses::default();
    let entrance = Entrance::find(options, &mut addresses)?;
    let monitor = MonitorPlan::find(options, &mut addresses, started_at)?;
    let (_lock, directory) = lock(options)?;
    let storage = settings::storage_config(options, settings::random_bits())?;
    let info = open_shared(directory.as_deref(), &storage)?;
    let core_count = core_count(options, info.shard_count);
    let course = Course::new();
    let (events, inbox) = channel();
    hear_signals(events.clone()).map_err(|error| ServeError::Signals(error.to_string()))?;
    let _pid_file = PidFile::write(options.pid_file.as_deref())?;
    let shard_count = info.shard_count;
    let (settings, changes) = channel();
    let plan = SeatPlan {
        core_count,
        entrance: entrance.clone(),
        monitor: monitor.clone(),
        directory,
        info,
        storage,
        net: entrance.net_config(options, shard_count),
        course: course.clone(),
        events,
        log: log.clone(),
    };
    let mut threads = Vec::new();
    for seat in seats(&plan, changes) {
        threads.push(spawn(seat)?);
    }
    drop(plan);
    let cores = usize::from(core_count);
    let pages = monitor.as_ref().map(MonitorPlan::urls).unwrap_or_default();
    let running = Running { entrance: entrance.to_string(), pages, shard_count, core_count: cores };
    let ready_line = ready_line(options, &running).to_string();
    let ports_file =
        PortsFile::new(options.ports_directory.as_deref(), entrance.address(), &running.pages);
    let start = Start { addresses, ready_line, ports_file };
    let supervisor = Supervisor::new(log.clone(), course.clone(), core_count, start);
    let reloader = Reloader { started: options, entrance, shard_count, settings, log: log.clone() };
    if supervisor.watch(&inbox, wall_time, || reloader.reload())? == End::BeforeStart {
        return Ok(());
    }
    course.advance(Phase::Stopping);
    for thread in threads {
        thread.join().map_err(|error| ServeError::Executor(error.to_string()))?;
    }
    Ok(())
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
    let (directory, config) = (directory.map(Path::to_owned), config.clone());
    let opened = executor::run("weirlog-open", || async move {
        match directory {
            Some(directory) => {
                let disk = DmaDisk::new(&directory).await?;
                open_store(&disk, &config).await
            }
            None => open_store(&MemoryDisk::default(), &config).await,
        }
    });
    Ok(opened.map_err(ServeError::Executor)??)
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
    monitor: Option<MonitorPlan>,
    directory: Option<PathBuf>,
    info: StoreInfo,
    storage: StorageConfig,
    net: NetConfig,
    course: Course,
    events: Sender<Event>,
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
    duties.insert(
        0,
        Duty::Lead(Box::new(Lead {
            entrance: plan.entrance.clone(),
            monitor: plan.monitor.clone(),
            others,
            changes,
        })),
    );
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
            course: plan.course.clone(),
            events: plan.events.clone(),
            log: plan.log.clone(),
        })
        .collect()
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

fn spawn(seat: Seat) -> Result<ExecutorJoinHandle<Option<()>>, ServeError> {
    let own = seat.own;
    execute(
        &format!("weirlog-{own}"),
        move || placement(own),
        || async move {
            let (events, course) = (seat.events.clone(), seat.course.clone());
            let result = match seat.directory.clone() {
                Some(directory) => match DmaDisk::new(&directory).await {
                    Ok(disk) => run(disk, seat).await,
                    Err(error) => Err(OpenError::from(error).into()),
                },
                None => run_in_memory(seat).await,
            };
            if let Err(error) = result {
                // Nobody listens only if the process is about to end.
                let _ = events.send(Event::Failed(error));
                // The process ends now, unless it does already. glommio's thread for blocking calls panics over an
                // executor that is gone before its answer: segments may be on their way.
                while course.phase() != Phase::Stopping {
                    GlommioRuntime.sleep(COURSE_POLL_INTERVAL).await;
                }
            }
        },
    )
    .map_err(ServeError::Executor)
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
    tell_recovery(&log, &storage);
    let seed = seat.storage.seed.wrapping_add(u64::from(own.0) + 1);
    let core = Core::new(seat.net, own, core_count, storage, seed);
    let front = Front::new(core, runtime, Box::new(move |notice| tell(&log, &notice)));
    let (mesh, incoming) = seat.mesh.connect().await;
    front.start(mesh, incoming).await;
    match seat.duty {
        Duty::Lead(duty) => lead(&front, *duty, &seat.course, &seat.events).await?,
        Duty::Receive(receiver) => {
            let receiver = connected(receiver.connect()).await;
            while let Some(handoff) = receiver.recv().await {
                match handoff {
                    Handoff::Socket(socket) => front.accept(socket),
                    Handoff::LameDuck => enter_lame_duck(&front, seat.events.clone()),
                    Handoff::Stop => break,
                }
            }
        }
    }
    front.stop().await;
    Ok(())
}

/// Lets clients come in, and hands what changes to the cores, until the process shall stop.
async fn lead<D: Disk>(
    front: &Rc<Front<D, GlommioRuntime>>,
    duty: Lead,
    course: &Course,
    events: &Sender<Event>,
) -> Result<(), ServeError> {
    let Lead { entrance, monitor, others, changes } = duty;
    let mut senders = Vec::with_capacity(others.len());
    for sender in others {
        senders.push(Rc::new(connected(sender.connect()).await));
    }
    let mut listener = match entrance {
        Entrance::Port { address, .. } => Some(listen(front.clone(), address, senders.clone())?),
        Entrance::Upstreams { servers, .. } => {
            front.join_upstream(servers).await.map_err(ServeError::Join)?;
            None
        }
    };
    if let Some(MonitorPlan { site, ports }) = monitor {
        front.monitor(site, &ports).map_err(ServeError::monitor)?;
    }
    let _ = events.send(Event::Listening);
    let mut has_told = false;
    while course.phase() != Phase::Stopping {
        if course.phase() == Phase::LameDuck && !std::mem::replace(&mut has_told, true) {
            if let Some(listener) = listener.take() {
                listener.cancel().await;
            }
            for sender in &senders {
                // Behind the last socket. A core that has ended serves nobody.
                let _ = sender.send(Handoff::LameDuck).await;
            }
            enter_lame_duck(front, events.clone());
        }
        for settings in changes.try_iter() {
            front.reload(&settings);
        }
        GlommioRuntime.sleep(COURSE_POLL_INTERVAL).await;
    }
    for sender in senders {
        // A full channel: the core is so busy that its sockets die with the process.
        let _ = sender.try_send(Handoff::Stop);
        sender.close();
    }
    Ok(())
}

/// Lets the core's clients go, and tells when none is left.
fn enter_lame_duck<D: Disk>(front: &Rc<Front<D, GlommioRuntime>>, events: Sender<Event>) {
    front.enter_lame_duck();
    let front = front.clone();
    glommio::spawn_local(async move {
        while !front.is_lame_duck_over() {
            GlommioRuntime.sleep(COURSE_POLL_INTERVAL).await;
        }
        // Nobody hears it if a signal has ended the process first.
        let _ = events.send(Event::LameDuckOver);
    })
    .detach();
}

/// Begins to accept connections, until the task is dropped, and hands them to the cores in turn.
fn listen<D: Disk>(
    front: Rc<Front<D, GlommioRuntime>>,
    address: SocketAddr,
    targets: Vec<Rc<ConnectedSender<Handoff>>>,
) -> Result<Task<()>, ServeError> {
    let listener = TcpListener::bind(address).map_err(|error| ServeError::Listen {
        host: address.ip().to_string(),
        port: address.port(),
        reason: error.to_string(),
    })?;
    Ok(glommio::spawn_local(async move {
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
    }))
}
