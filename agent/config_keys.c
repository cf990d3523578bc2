/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The vocabulary of the configuration: its sections, their keys, the words that keys choose from.
 * Reads from: nothing; it is a table.
 * Writes to: nothing; config_section.c puts values where the table says.
 */
#include <linux/un.h>

#include "config_draft.h"
#include "util/cleanup.h"

#define LIMIT_FLOWS_MAX	  (16 << 20)
#define LIMIT_CGROUPS_MAX (1 << 20)
#define LIMIT_RULES_MAX	  (16 << 20)
#define SPLICE_QUEUE_MIN  (4 << 10)
#define SPLICE_QUEUE_MAX  (1 << 30)

#define TCP_PORT 15001 /* in examples */
#define DNS_PORT 15053

static const struct config_choice log_levels[] = {
	{.name = "error"}, {.name = "warning"}, {.name = "info"}, {.name = "debug"}, {},
};

static const struct config_choice fallbacks[] = {
	[CONFIG_FALLBACK_NFTABLES] = {.name = "nftables"},
	[CONFIG_FALLBACK_OFF] = {.name = "off"},
	[CONFIG_FALLBACK_FAIL] = {.name = "fail"},
	{},
};

static const struct config_choice switches[] = {
	[CONFIG_NO] = {.name = "no"},
	[CONFIG_YES] = {.name = "yes"},
	{},
};

static const struct config_choice splices[] = {
	[SHUNT_SCOPE_OFF] = {.name = "off"},
	[SHUNT_SCOPE_SIDECAR] = {.name = "sidecar"},
	[SHUNT_SCOPE_NETNS] = {.name = "netns"},
	[SHUNT_SCOPE_NODE] = {.name = "node"},
	{},
};

static const struct config_choice sidecar_downs[] = {
	[CONFIG_SIDECAR_DOWN_REFUSE] = {.name = "refuse"},
	[CONFIG_SIDECAR_DOWN_BYPASS] = {.name = "bypass"},
	{},
};

/* clang-format off */
#define KEY(name_, function, owner, field, ...) \
	{ .name = name_, .parse = function, .offset = offsetof(owner, field), ##__VA_ARGS__ }
#define AGENT(name, function, ...) KEY(#name, function, struct config, name, ##__VA_ARGS__)
#define LIMIT(name, function, most, ...) \
	KEY(#name, function, struct config, limit_##name, .max = most, ##__VA_ARGS__)
#define MESH(name, function, ...) KEY(#name, function, struct config_mesh, name, ##__VA_ARGS__)
#define LIST(name, function, ...) MESH(name, function, .list = true, ##__VA_ARGS__)
#define UNBUILT(name_) { .name = #name_ }

static const struct config_key agent_keys[CONFIG_AGENT_KEYS] = {
	[CONFIG_AGENT_CGROUP_ROOT] = AGENT(cgroup_root, config_value_path),
	[CONFIG_AGENT_PIN_DIR] = AGENT(pin_dir, config_value_path),
	[CONFIG_AGENT_CONTROL_SOCKET] =
		AGENT(control_socket, config_value_path, .max = UNIX_PATH_MAX - 1),
	[CONFIG_AGENT_METRICS_LISTEN] =
		AGENT(metrics_listen, config_value_listen, .list = true, .port = CONFIG_METRICS_PORT),
	[CONFIG_AGENT_LOG_LEVEL] = AGENT(log_level, config_value_log_level, .choices = log_levels),
	[CONFIG_AGENT_FALLBACK] = AGENT(fallback, config_value_choice, .choices = fallbacks),
	[CONFIG_AGENT_SPLICE_NEVER] = AGENT(splice_never, config_value_program, .list = true),
	[CONFIG_AGENT_RELOAD_ON_CHANGE] =
		AGENT(reload_on_change, config_value_choice, .choices = switches),
};

static const struct config_key limit_keys[] = {
	LIMIT(flows, config_value_number, LIMIT_FLOWS_MAX),
	LIMIT(cgroups, config_value_number, LIMIT_CGROUPS_MAX),
	LIMIT(rules, config_value_number, LIMIT_RULES_MAX),
	LIMIT(splice_queue, config_value_size, SPLICE_QUEUE_MAX, .min = SPLICE_QUEUE_MIN),
};

static const struct config_key mesh_keys[CONFIG_MESH_KEYS] = {
	[CONFIG_MESH_CGROUPS] = LIST(cgroups, config_value_glob),
	[CONFIG_MESH_SIDECAR_CGROUPS] = LIST(sidecar_cgroups, config_value_glob),
	[CONFIG_MESH_SIDECAR_UIDS] = LIST(sidecar_uids, config_value_uid),
	[CONFIG_MESH_SIDECAR_GIDS] = LIST(sidecar_gids, config_value_gid),
	[CONFIG_MESH_TCP_REDIRECT] = LIST(tcp_redirect, config_value_endpoint, .port = TCP_PORT),
	[CONFIG_MESH_DNS_REDIRECT] = LIST(dns_redirect, config_value_endpoint, .port = DNS_PORT),
	[CONFIG_MESH_INBOUND_REDIRECT] = UNBUILT(inbound_redirect),
	[CONFIG_MESH_INCLUDE_CIDRS] = LIST(include_cidrs, config_value_cidr),
	[CONFIG_MESH_EXCLUDE_CIDRS] = LIST(exclude_cidrs, config_value_cidr),
	[CONFIG_MESH_INCLUDE_PORTS] = LIST(include_ports, config_value_ports),
	[CONFIG_MESH_EXCLUDE_PORTS] = LIST(exclude_ports, config_value_ports),
	[CONFIG_MESH_EXCLUDE_UIDS] = LIST(exclude_uids, config_value_uid),
	[CONFIG_MESH_EXCLUDE_GIDS] = LIST(exclude_gids, config_value_gid),
	[CONFIG_MESH_INBOUND_INCLUDE_PORTS] = UNBUILT(inbound_include_ports),
	[CONFIG_MESH_INBOUND_EXCLUDE_PORTS] = UNBUILT(inbound_exclude_ports),
	[CONFIG_MESH_SPLICE] = MESH(splice, config_value_choice, .choices = splices),
	[CONFIG_MESH_ON_SIDECAR_DOWN] =
		MESH(on_sidecar_down, config_value_choice, .choices = sidecar_downs),
};
/* clang-format on */

_Static_assert(ARRAY_SIZE(agent_keys) <= CONFIG_MESH_KEYS, "see struct config_draft.given");
_Static_assert(ARRAY_SIZE(limit_keys) <= CONFIG_MESH_KEYS, "see struct config_draft.given");

const struct config_section config_sections[CONFIG_SECTIONS] = {
	[CONFIG_SECTION_AGENT] = {"agent", agent_keys, ARRAY_SIZE(agent_keys)},
	[CONFIG_SECTION_LIMITS] = {"limits", limit_keys, ARRAY_SIZE(limit_keys)},
	[CONFIG_SECTION_MESH] = {"mesh", mesh_keys, ARRAY_SIZE(mesh_keys)},
};
