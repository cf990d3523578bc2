/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A client of the control, and the control as its clients know it. */
#pragma once

#include "control.h"
#include "control_socket.h"
#include "shunt/proto.h"

struct client;

struct control {
	struct control_socket socket;
	uv_poll_t poll;
	uv_timer_t retry;
	const struct control_verb *verbs;
	void *user;
	struct client *clients[SHUNT_PROTO_CLIENTS_MAX];
	unsigned int refs; /* one for itself until its handles are closed, one for each client */
	bool closing;
};

/* Takes away a reference; without any it is freed. */
void control_unref(struct control *control);

/* Takes @fd, a connection, on success. *@slot, in control->clients, is NULL again when it ends. */
int control_client_new(struct control *control, struct client **slot, int fd);
/* The control closes: lets it have its answer, if it takes it within a second. */
void control_client_end(struct client *client);
