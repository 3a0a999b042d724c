//! The watches: one list and one stream per kind and namespace, kept in memory by the library.

use std::{collections::BTreeMap, fmt::Debug, hash::Hash, sync::Arc};

use futures::{StreamExt as _, future::join_all};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, Client, CustomResourceExt, Resource,
    core::DynamicObject,
    runtime::{
        WatchStreamExt as _,
        reflector::{Store, store::Writer},
        watcher,
    },
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::{sync::Notify, task::JoinSet};

use super::{Picture, Seen};
use crate::{
    keys::PRODUCER_LABEL,
    resources::{PushCluster, PushProducer, PushRoom},
};

/// What is watched where.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// The operator's own namespace: its PushCluster, its pods.
    pub(crate) home: String,
    /// Namespaces whose PushRooms and PushProducers count; `None`: all of them.
    pub(crate) namespaces: Option<Vec<String>>,
    /// Which pods and Deployments are this installation's.
    pub(crate) selector: String,
}

/// Watches that run as long as this lives.
#[derive(Debug)]
pub(crate) struct Watches {
    clusters: Store<DynamicObject>,
    rooms: Vec<Store<DynamicObject>>,
    producers: Vec<Store<DynamicObject>>,
    secrets: Vec<Store<Secret>>,
    pods: Store<Pod>,
    deployments: Store<Deployment>,
    /// Told whenever something changed.
    changed: Arc<Notify>,
    _tasks: JoinSet<()>,
}

/// Watches that don't work now, and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Troubles(Arc<Mutex<BTreeMap<String, String>>>);

impl Troubles {
    /// One sentence, if there is any.
    pub(crate) fn told(&self) -> Option<String> {
        let troubles = self.0.lock();
        let (what, why) = troubles.iter().next()?;
        let more = troubles.len() - 1;
        let others = if more == 0 {
            String::new()
        } else {
            format!(" (and {more} more)")
        };
        Some(format!("can't watch {what}: {why}{others}"))
    }
}

impl Watches {
    /// Starts them.
    pub(crate) fn start(client: &Client, scope: &Scope, troubles: Troubles) -> Self {
        let mut starter = Starter {
            client: client.clone(),
            changed: Arc::default(),
            troubles,
            tasks: JoinSet::new(),
        };
        let everything = watcher::Config::default;
        let ours = watcher::Config::default().labels(&scope.selector);
        let keys = watcher::Config::default().labels(PRODUCER_LABEL);
        let home = Some(scope.home.as_str());
        let namespaces: Vec<Option<&str>> = match &scope.namespaces {
            None => vec![None],
            Some(names) => names.iter().map(|name| Some(name.as_str())).collect(),
        };
        let clusters = starter.objects::<PushCluster>(home, everything());
        let (mut rooms, mut producers, mut secrets) = (Vec::new(), Vec::new(), Vec::new());
        for namespace in namespaces {
            rooms.push(starter.objects::<PushRoom>(namespace, everything()));
            producers.push(starter.objects::<PushProducer>(namespace, everything()));
            secrets.push(starter.typed::<Secret>("secrets", namespace, keys.clone()));
        }
        let pods = starter.typed::<Pod>("pods", home, ours.clone());
        let deployments = starter.typed::<Deployment>("deployments", home, ours);
        Self {
            clusters,
            rooms,
            producers,
            secrets,
            pods,
            deployments,
            changed: starter.changed,
            _tasks: starter.tasks,
        }
    }

    /// Waits until every watch has listed what there is.
    pub(crate) async fn ready(&self) {
        // A writer that is gone will not come back; its trouble is told.
        let objects = [&self.clusters]
            .into_iter()
            .chain(&self.rooms)
            .chain(&self.producers);
        join_all(objects.map(Store::wait_until_ready)).await;
        join_all(self.secrets.iter().map(Store::wait_until_ready)).await;
        let _ = self.pods.wait_until_ready().await;
        let _ = self.deployments.wait_until_ready().await;
    }

    /// Waits until something changes. A change meanwhile is not missed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What there is now.
    pub(crate) fn picture(&self) -> Picture {
        fn read<S: DeserializeOwned>(kind: &'static str, stores: &[Store<DynamicObject>]) -> Vec<Seen<S>> {
            let objects = stores.iter().flat_map(Store::state);
            objects.map(|object| Seen::read(kind, &object)).collect()
        }
        Picture {
            clusters: read("PushCluster", std::slice::from_ref(&self.clusters)),
            rooms: read("PushRoom", &self.rooms),
            producers: read("PushProducer", &self.producers),
            secrets: self.secrets.iter().flat_map(Store::state).collect(),
            pods: self.pods.state(),
            deployments: self.deployments.state(),
        }
    }
}

struct Starter {
    client: Client,
    changed: Arc<Notify>,
    troubles: Troubles,
    tasks: JoinSet<()>,
}

impl Starter {
    /// Watches one of our kinds without reading its specs, so that none of them stops the others.
    fn objects<K: CustomResourceExt>(
        &mut self,
        namespace: Option<&str>,
        config: watcher::Config,
    ) -> Store<DynamicObject> {
        let kind = K::api_resource();
        let api = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        let what = describe(&kind.plural, namespace);
        self.watch::<DynamicObject>(what, api, config, kind)
    }

    fn typed<K>(&mut self, plural: &str, namespace: Option<&str>, config: watcher::Config) -> Store<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let api = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        self.watch::<K>(describe(plural, namespace), api, config, ())
    }

    fn watch<K>(
        &mut self,
        what: String,
        api: Api<K>,
        config: watcher::Config,
        kind: K::DynamicType,
    ) -> Store<K>
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        K::DynamicType: Eq + Hash + Clone + Send + Sync + Unpin,
    {
        let writer = Writer::new(kind);
        let store = writer.as_reader();
        let (changed, troubles) = (self.changed.clone(), self.troubles.clone());
        self.tasks.spawn(async move {
            let mut events = watcher(api, config).default_backoff().reflect(writer).boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                    Ok(_) => {
                        if troubles.0.lock().remove(&what).is_some() {
                            tracing::info!(what, "the watch works again");
                        }
                        changed.notify_one();
                    }
                    Err(error) => {
                        let why = explain(&error);
                        if troubles.0.lock().insert(what.clone(), why.clone()).is_none() {
                            tracing::warn!(what, error = why, "the watch fails; it is tried again");
                        }
                    }
                }
            }
        });
        store
    }
}

fn describe(plural: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{plural} in the namespace {namespace}"),
        None => format!("{plural} in all namespaces"),
    }
}

/// What to do about a watch that fails.
fn explain(error: &watcher::Error) -> String {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    };
    match status {
        // Said in plain text, and not as a Status.
        Some(status) if status.code == 404 => {
            "the API server does not know the kind; `carillon operator crds | kubectl apply --server-side -f -` makes it known"
                .to_owned()
        }
        Some(status) if status.is_forbidden() => {
            format!("the operator's role does not allow it: {}", status.message)
        }
        _ => error.to_string(),
    }
}
