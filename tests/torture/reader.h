/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reads, by habit, and checks what it reads; stalls at times. */
#pragma once

#include <stdint.h>

struct end;
struct worker;

/* With @reading held, the socket open; @events are what epoll said, 0 for anything else. */
void reader_run(struct end *end, struct worker *worker, uint32_t events);

/* Decides after how many bytes it stalls next. */
void reader_draw_stall(struct end *end, struct worker *worker);
