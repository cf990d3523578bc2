/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Redirection by nftables.
 * Reads from: enrol (what cgroups are), cgroup.procs, /proc/PID/ns/net, /run/netns.
 * Writes to: a table in each network namespace concerned; warnings of enrol.
 */
#include "nft.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "log.h"
#include "netns.h"
#include "nft_rules.h"
#include "nft_run.h"
#include "process.h"
#include "util/cleanup.h"

#define NFT_NSFS_MAGIC	0x6e736673
#define NFT_NAMED	"/run/netns"
#define NFT_WAIT_MIN_MS 10   /* after a change, until namespaces are looked for; … */
#define NFT_WAIT_MAX_MS 8000 /* … doubled each time, up to this */

CLEANUP_DEFINE(DIR *, closedir)

struct nft_place {
	int fd; /* of the namespace, which it keeps alive */
	ino_t inum;
	bool seen;   /* somebody of an enrolled cgroup lives there */
	bool tabled; /* has our table */
};

struct nft {
	uv_timer_t timer;
	unsigned int wait_ms;
	struct enrol *enrol;
	char *root;
	char *owner;
	char *mark; /* name of the chain that says whose the table is */
	int depth;  /* of the cgroup root, below that of the hierarchy */
	const struct policy *policy;
	char *rules;  /* the table in force */
	bool adopted; /* an earlier agent's tables were there */
	bool changed; /* cgroups came or went: the rules have to be made anew */
	struct nft_place *places;
	size_t n;
};

struct nft_call {
	const char *commands;
	char *error; /* what nftables says; or NULL */
};

static int nft_on_entered(void *arg)
{
	struct nft_call *call = arg;

	return nft_run(call->commands, &call->error);
}

/* Runs "@before @commands" in a namespace. *@ret_error, unless NULL: why not, the caller frees. */
static int nft_run_at(int ns_fd, const char *before, const char *commands, char **ret_error)
{
	_cleanup_free_ char *text = NULL;
	struct nft_call call = {};
	int r;

	if (asprintf(&text, "%s%s", before, commands) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	call.commands = text;
	r = netns_enter_and(ns_fd, nft_on_entered, &call);
	if (r && !call.error)
		call.error = strdup(strerror(-r));
	if (ret_error)
		*ret_error = TAKE_PTR(call.error);
	free(call.error);
	return r;
}

static bool nft_is_ours(int ns_fd, const char *mark)
{
	return !nft_run_at(ns_fd, "list chain " NFT_RULES_TABLE " ", mark, NULL);
}

static int nft_delete(int ns_fd, char **ret_error)
{
	return nft_run_at(ns_fd, "delete table ", NFT_RULES_TABLE, ret_error);
}

static void nft_warn(struct nft *nft, const struct nft_place *place, const char *what,
		     const char *why)
{
	enrol_warn(nft->enrol, "network namespace %" PRIu64 ": %s: %s", (uint64_t)place->inum, what,
		   why ?: "no memory");
}

/* At no instant is there no table where there was one. */
static int nft_install(struct nft *nft, struct nft_place *place, const char *rules)
{
	_cleanup_free_ char *error = NULL;
	bool ours = nft_is_ours(place->fd, nft->mark);
	int r = nft_run_at(place->fd,
			   ours ? "delete table " NFT_RULES_TABLE "\n"
				: "create table " NFT_RULES_TABLE "\n",
			   rules, &error);

	nft->adopted |= ours && !place->tabled;
	if (r)
		nft_warn(nft, place, "its connections are not redirected as they should be", error);
	else
		place->tabled = true;
	return r;
}

/* Takes our table out, if it is there still. */
static int nft_uninstall(struct nft *nft, const struct nft_place *place)
{
	_cleanup_free_ char *error = NULL;
	int r = 0;

	if (place->tabled && nft_is_ours(place->fd, nft->mark))
		r = nft_delete(place->fd, &error);
	if (r)
		nft_warn(nft, place, "its table cannot be removed", error);
	return r;
}

static void nft_forget(struct nft *nft, struct nft_place *place)
{
	close(place->fd);
	*place = nft->places[--nft->n];
}

static struct nft_place *nft_find(struct nft *nft, ino_t inum)
{
	for (size_t i = 0; i < nft->n; i++)
		if (nft->places[i].inum == inum)
			return &nft->places[i];
	return NULL;
}

static void nft_add(struct nft *nft, pid_t pid)
{
	_cleanup_close_ int fd = -1;
	struct nft_place *places;
	char path[64];
	struct stat st;

	if (nft->n == NFT_NAMESPACES_MAX) {
		enrol_warn(nft->enrol,
			   "more than %d network namespaces: in the others nothing is redirected",
			   NFT_NAMESPACES_MAX);
		return;
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	/* It ended, or changed places, in this instant. */
	if (fd < 0 && errno != ENOENT && errno != ESRCH)
		enrol_warn(nft->enrol,
			   "a network namespace cannot be opened: nothing is redirected there: %s",
			   strerror(errno));
	if (fd < 0 || fstat(fd, &st) || nft_find(nft, st.st_ino))
		return;
	places = reallocarray(nft->places, nft->n + 1, sizeof(*places));
	if (!places)
		return;
	nft->places = places;
	nft->places[nft->n++] =
		(struct nft_place){.fd = TAKE_FD(fd), .inum = st.st_ino, .seen = true};
}

static void nft_on_process(void *user, pid_t pid)
{
	struct nft *nft = user;
	struct nft_place *place;
	uint32_t inum;

	if (process_netns(pid, &inum))
		return;
	place = nft_find(nft, inum);
	if (place)
		place->seen = true;
	else
		nft_add(nft, pid);
}

static void nft_on_cgroup(void *user, struct cgroup_node *node)
{
	const struct enrol_member *member = enrol_member(node);
	struct nft *nft = user;

	/* Sidecars too: theirs are usually there first. */
	if (member && member->match.entry.role != SHUNT_ROLE_NONE)
		process_each_in_cgroup(nft->root, node->path, nft_on_process, nft);
}

/* Where does anybody of an enrolled cgroup live? */
static void nft_look(struct nft *nft)
{
	for (size_t i = 0; i < nft->n; i++)
		nft->places[i].seen = false;
	enrol_each(nft->enrol, nft_on_cgroup, nft);
}

/* Namespaces that were left are left as they were found, and may go. */
static void nft_leave(struct nft *nft)
{
	for (size_t i = nft->n; i-- > 0;) {
		struct nft_place *place = &nft->places[i];

		if (place->seen)
			continue;
		nft_uninstall(nft, place);
		nft_forget(nft, place);
	}
}

/* Who flushes all rules takes ours with them. */
static void nft_mend(struct nft *nft)
{
	for (size_t i = 0; i < nft->n; i++) {
		struct nft_place *place = &nft->places[i];

		if (place->tabled && nft_is_ours(place->fd, nft->mark))
			continue;
		if (place->tabled)
			nft_warn(nft, place, "table " NFT_RULES_TABLE, "removed by others");
		place->tabled = false;
		nft_install(nft, place, nft->rules);
	}
}

struct nft_list {
	struct nft *nft;
	struct nft_rules_cgroup *items;
	size_t n;
	int error;
};

static bool nft_is_transition(const struct cgroup_node *node)
{
	const struct enrol_member *member = enrol_member(node);
	const struct enrol_member *parent = node->parent ? enrol_member(node->parent) : NULL;
	static const struct shunt_cgroup none;

	return memcmp(&member->match.entry, parent ? &parent->match.entry : &none, sizeof(none));
}

static unsigned int nft_count_parts(const char *path)
{
	unsigned int parts = 0;

	for (; *path; path++)
		parts += *path == '/' && path[1] && path[1] != '/';
	return parts;
}

static int nft_list_add(struct nft_list *list, const struct cgroup_node *node)
{
	const struct enrol_member *member = enrol_member(node);
	const struct nft *nft = list->nft;
	struct nft_rules_cgroup *items;
	char *path;

	items = reallocarray(list->items, list->n + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	list->items = items;
	if (asprintf(&path, "%s%s", nft->root, node->path) < 0)
		return -ENOMEM;
	/* One that is gone, which the next event will say, would make all rules fail. */
	if (access(path, F_OK)) {
		free(path);
		return 0;
	}
	items[list->n++] = (struct nft_rules_cgroup){
		.path = path,
		.level = nft->depth + nft_count_parts(node->path),
		.mesh = member->match.entry.role == SHUNT_ROLE_MEMBER
				? (int)(member->match.mesh - nft->policy->config->meshes)
				: -1,
	};
	return 0;
}

static void nft_list_visit(void *user, struct cgroup_node *node)
{
	struct nft_list *list = user;

	if (list->error || !enrol_member(node) || !nft_is_transition(node))
		return;
	if (!nft_rules_path_fits(node->path))
		enrol_warn(list->nft->enrol,
			   "cgroup %s: nftables cannot write its name: it is what the one above is",
			   node->path);
	else
		list->error = nft_list_add(list, node);
}

/* The table as it should be. NULL: no memory. */
static char *nft_compile(struct nft *nft)
{
	struct nft_list list = {.nft = nft};
	char *rules = NULL;

	enrol_each(nft->enrol, nft_list_visit, &list);
	if (!list.error)
		rules = nft_rules(nft->policy, list.items, list.n, nft->owner);
	for (size_t i = 0; i < list.n; i++)
		free((char *)list.items[i].path);
	free(list.items);
	return rules;
}

/* In all places; stops at the first failure. */
static int nft_install_all(struct nft *nft, const char *rules)
{
	int r = 0;

	for (size_t i = 0; !r && i < nft->n; i++)
		if (nft->places[i].tabled)
			r = nft_install(nft, &nft->places[i], rules);
	return r;
}

static void nft_recompile(struct nft *nft)
{
	_cleanup_free_ char *rules = nft_compile(nft);

	/* What fails is tried again with the next look. */
	if (!rules)
		return;
	if (strcmp(rules, nft->rules) && nft_install_all(nft, rules))
		return;
	free(nft->rules);
	nft->rules = TAKE_PTR(rules);
	nft->changed = false;
}

static void nft_on_timer(uv_timer_t *timer)
{
	struct nft *nft = timer->data;

	if (nft->changed)
		nft_recompile(nft);
	nft_look(nft);
	nft_leave(nft);
	nft_mend(nft);
	if (nft->wait_ms < NFT_WAIT_MAX_MS)
		nft->wait_ms *= 2;
	uv_timer_start(&nft->timer, nft_on_timer, nft->wait_ms, 0);
}

/* A process may enter its network namespace some time after its cgroup, and nothing tells. */
void nft_look_soon(struct nft *nft)
{
	nft->wait_ms = NFT_WAIT_MIN_MS;
	uv_timer_start(&nft->timer, nft_on_timer, nft->wait_ms, 0);
}

static void nft_on_change(void *user)
{
	struct nft *nft = user;

	nft->changed = true;
	if (nft->policy)
		nft_look_soon(nft);
}

static void nft_free(struct nft *nft)
{
	while (nft->n)
		nft_forget(nft, &nft->places[0]);
	free(nft->places);
	free(nft->rules);
	free(nft->mark);
	free(nft->owner);
	free(nft->root);
	free(nft);
}

int nft_new(uv_loop_t *loop, const char *root, const char *owner, struct enrol *enrol,
	    struct nft **ret)
{
	_cleanup_close_ int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct nft *nft;

	if (root_fd < 0)
		return -errno;
	nft = calloc(1, sizeof(*nft));
	if (!nft)
		return -ENOMEM;
	nft->depth = cgroup_depth(root_fd);
	nft->enrol = enrol;
	nft->root = strdup(root);
	nft->owner = strdup(owner);
	nft->mark = nft_rules_owner(owner);
	if (nft->depth < 0 || !nft->root || !nft->owner || !nft->mark) {
		int r = nft->depth < 0 ? nft->depth : -ENOMEM;

		nft_free(nft);
		return r;
	}
	uv_timer_init(loop, &nft->timer);
	nft->timer.data = nft;
	enrol_on_change(enrol, nft_on_change, nft);
	*ret = nft;
	return 0;
}

static void nft_on_closed(uv_handle_t *handle)
{
	nft_free(handle->data);
}

void nft_close(struct nft *nft)
{
	if (!nft)
		return;
	enrol_on_change(nft->enrol, NULL, NULL);
	uv_close((uv_handle_t *)&nft->timer, nft_on_closed);
}

void nft_warn_of_bypass(const struct nft *nft)
{
	const struct config *config = nft->policy->config;

	for (size_t i = 0; i < config->n_meshes; i++)
		if (config->meshes[i].on_sidecar_down == CONFIG_SIDECAR_DOWN_BYPASS)
			enrol_warn(
				nft->enrol,
				"mesh %s: on_sidecar_down = bypass cannot be had from nftables: while the sidecar is down connections are refused",
				config->meshes[i].name);
}

/* Does the kernel take them? Asked in the agent's own namespace, where nothing is changed. */
static int nft_ask(const char *rules)
{
	_cleanup_free_ char *commands = NULL, *error = NULL;
	int r;

	/* Whoever has such a table there, it is not in the way. */
	if (asprintf(&commands,
		     "add table " NFT_RULES_TABLE "\ndelete table " NFT_RULES_TABLE "\n%s",
		     rules) < 0) {
		commands = NULL;
		return -ENOMEM;
	}
	r = nft_check(commands, &error);
	if (r)
		log_error("nftables does not take the rules: %s", error ?: "no memory");
	return r;
}

int nft_apply(struct nft *nft, const struct policy *policy)
{
	const struct policy *before = nft->policy;
	_cleanup_free_ char *rules = NULL;
	int r;

	nft->policy = policy;
	rules = nft_compile(nft);
	r = rules ? nft_ask(rules) : -ENOMEM;
	r = r ?: nft_install_all(nft, rules);
	if (r) {
		nft->policy = before;
		if (nft->rules)
			nft_install_all(nft, nft->rules);
		nft->changed = true;
		return r;
	}
	free(nft->rules);
	nft->rules = TAKE_PTR(rules);
	nft->changed = false;
	nft_warn_of_bypass(nft);
	nft_look(nft);
	nft_mend(nft);
	nft_look_soon(nft);
	return 0;
}

int nft_uninstall_all(struct nft *nft)
{
	int r = 0;

	uv_timer_stop(&nft->timer);
	enrol_on_change(nft->enrol, NULL, NULL);
	for (size_t i = 0; i < nft->n; i++)
		r = nft_uninstall(nft, &nft->places[i]) ?: r;
	return r;
}

int nft_remove(struct nft *nft)
{
	int r = nft_uninstall_all(nft);

	nft_remove_stale(nft->owner);
	return r;
}

bool nft_adopted(const struct nft *nft)
{
	return nft->adopted;
}

size_t nft_namespaces(const struct nft *nft)
{
	size_t n = 0;

	for (size_t i = 0; i < nft->n; i++)
		n += nft->places[i].tabled;
	return n;
}

struct nft_sweep {
	const char *mark;
	ino_t *inums; /* that were visited */
	size_t n;
	unsigned int removed;
};

static void nft_sweep_visit(struct nft_sweep *sweep, const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct statfs fs;
	struct stat st;
	ino_t *inums;

	/* A name may be left whose namespace is gone. */
	if (fd < 0 || fstatfs(fd, &fs) || fs.f_type != NFT_NSFS_MAGIC || fstat(fd, &st))
		return;
	for (size_t i = 0; i < sweep->n; i++)
		if (sweep->inums[i] == st.st_ino)
			return;
	inums = reallocarray(sweep->inums, sweep->n + 1, sizeof(*inums));
	if (!inums)
		return;
	sweep->inums = inums;
	sweep->inums[sweep->n++] = st.st_ino;
	if (nft_is_ours(fd, sweep->mark) && !nft_delete(fd, NULL))
		sweep->removed++;
}

/* "@directory/ENTRY@behind" for each entry, of processes or all. */
static void nft_sweep_directory(struct nft_sweep *sweep, const char *directory, bool processes,
				const char *behind)
{
	_cleanup_(cleanup_closedir) DIR *dir = opendir(directory);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char path[512];

		if (processes ? !isdigit((unsigned char)*entry->d_name) : *entry->d_name == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s%s", directory, entry->d_name, behind);
		nft_sweep_visit(sweep, path);
	}
}

unsigned int nft_remove_stale(const char *owner)
{
	struct nft_sweep sweep = {};
	_cleanup_free_ char *mark = nft_rules_owner(owner);

	if (!mark)
		return 0;
	sweep.mark = mark;
	nft_sweep_directory(&sweep, NFT_NAMED, false, "");
	nft_sweep_directory(&sweep, "/proc", true, "/ns/net");
	free(sweep.inums);
	return sweep.removed;
}
