/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The agent as a whole: owns the loop and every module, starts them in order, stops them in
 * reverse. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "config.h"
#include "control.h"
#include "enrol.h"
#include "flows.h"
#include "http.h"
#include "loader.h"
#include "mounts.h"
#include "nft.h"
#include "policy.h"
#include "refresh.h"
#include "selftest.h"
#include "splice.h"
#include "watch.h"
#include "watchdog.h"

struct survey;

/* Of the ladder: what redirects. */
enum agent_rung {
	AGENT_RUNG_REDIRECT, /* programs */
	AGENT_RUNG_NFTABLES, /* rules: .loader, .watch and .splice are NULL */
	AGENT_RUNG_OFF,	     /* nothing: .nft, .policy and .enrol are NULL too */
};

struct agent {
	uv_loop_t loop;
	uv_signal_t signals[3]; /* SIGTERM, SIGINT, SIGHUP */
	uv_timer_t linger;	/* until what nobody should need any more is detached */
	uv_check_t log_check;	/* is something to be told later? */
	uv_timer_t log_timer;
	struct watchdog watchdog;
	struct mounts mounts;
	struct refresh refresh;
	bool pins_lost;	  /* … and the log says so */
	uv_timer_t drain; /* until it is looked whether other versions are needed still */
	unsigned int drain_ms;
	bool detaching; /* everything */
	bool failed;	/* … and it did not go */
	struct config *config;
	struct control *control;
	enum agent_rung rung;
	char *why;	 /* it is not a higher one; NULL: it is */
	struct nft *nft; /* only on the rung nftables */
	struct policy *policy;
	struct loader *loader;
	struct enrol *enrol;
	struct watch *watch;
	struct splice *splice;	  /* NULL: the kernel cannot */
	struct selftest selftest; /* the last one; all untried if none was needed yet */
	struct flows flows;
	struct survey *survey;
	struct http *http;		      /* NULL: nobody is to ask, or the port is taken */
	struct shunt_endpoint metrics_listen; /* where it listens … */
	int http_error;			      /* … or why it does not, a negative errno */
	char *cgroup_root;
	bool adopted;	    /* an earlier agent's attachments were there */
	uint64_t started;   /* ms, of a clock that nobody sets */
	time_t configured;  /* when the configuration in force was applied; 0: none could be */
	bool reload_failed; /* the last one */
};

/* Runs until a signal or `shuntctl detach` ends it. Returns the exit code of the process. Takes
 * @config, which is complete. */
int agent_run(struct config *config);

/* Puts @config in force on the rung that is climbed to; takes it on success. */
int agent_apply(struct agent *agent, struct config *config);
/* Takes out programs of other versions when the connections that they have are closed. */
void agent_begin_to_drain(struct agent *agent);
/* Applies the configuration file again: all or nothing. @problems gets what is wrong with it. */
int agent_reload(struct agent *agent, struct config_problems *problems);
/* Stops redirecting at once; a moment later takes all out of the kernel and ends the loop. */
void agent_detach(struct agent *agent);
