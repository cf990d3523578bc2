/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What shuntctl and the agent say to each other over the control socket: one JSON object a line.
 *
 *   → {"verb": "explain", "cgroup": "/a/b", "destination": "10.0.0.1:80"}
 *   ← {"ok": true, "result": …}
 *   ← {"ok": false, "error": "what is wrong"}
 *
 * A client may ask several times on one connection; answers come in the order of the questions.
 *
 *   → {"verb": "events"}
 *   ← {"ok": true, "result": null}
 *   ← {"event": "opened", …}
 *
 * Such an answer begins a stream: an object a line until one of them closes the connection. The
 * client says nothing more. If it does not read what it asked for, the last line is {"ok": false,
 * "error": …}.
 */
#pragma once

#define SHUNT_DEFAULT_CONFIG  "/etc/shunt/shunt.ini"
#define SHUNT_DEFAULT_SOCKET  "/run/shunt/control.sock"
#define SHUNT_DEFAULT_PIN_DIR "/sys/fs/bpf/shunt"
#define SHUNT_GROUP	      "shunt"

#define SHUNT_PROTO_REQUEST_MAX	 65536	    /* bytes in one question, its newline included */
#define SHUNT_PROTO_CLIENTS_MAX	 32	    /* connections at a time */
#define SHUNT_PROTO_PENDING_MAX	 (64 << 20) /* bytes of answers that a client has not read yet */
#define SHUNT_PROTO_STREAM_MAX	 (4 << 20)  /* the same of a stream: then it is cut off */
#define SHUNT_PROTO_IDLE_SECONDS 60 /* a connection that says nothing for so long is closed */
