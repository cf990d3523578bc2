/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What Prometheus is told of the agent as a process.
 * Reads from: /proc, getrusage().
 * Writes to: text, by way of metrics_text.
 */
#include "metrics_process.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"

/* In clock ticks since the kernel booted: field 22; the name of the program, field 2, may have
 * anything in it. */
static bool process_start_ticks(uint64_t *ret)
{
	_cleanup_fclose_ FILE *stream = fopen("/proc/self/stat", "re");
	char line[1024];
	const char *end;

	if (!stream || !fgets(line, sizeof(line), stream) || !(end = strrchr(line, ')')))
		return false;
	return sscanf(end + 1,
		      " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
		      "%*d %" SCNu64,
		      ret) == 1;
}

static void add_start(struct metrics_text *text)
{
	struct timespec now, up;
	uint64_t ticks;

	if (!process_start_ticks(&ticks) || clock_gettime(CLOCK_REALTIME, &now) ||
	    clock_gettime(CLOCK_BOOTTIME, &up))
		return;
	metrics_family(text, METRICS_GAUGE, "process_start_time_seconds",
		       "When the agent was started, Unix time.");
	metrics_sample(text, NULL, now.tv_sec - up.tv_sec + ticks / sysconf(_SC_CLK_TCK));
}

static void add_memory(struct metrics_text *text)
{
	_cleanup_fclose_ FILE *stream = fopen("/proc/self/statm", "re");
	uint64_t all, resident;

	if (!stream || fscanf(stream, "%" SCNu64 " %" SCNu64, &all, &resident) != 2)
		return;
	metrics_family(text, METRICS_GAUGE, "process_resident_memory_bytes",
		       "Memory that the agent has in RAM; maps in the kernel do not count.");
	metrics_sample(text, NULL, resident * sysconf(_SC_PAGESIZE));
}

static void add_time(struct metrics_text *text)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage))
		return;
	metrics_family(text, METRICS_COUNTER, "process_cpu_seconds",
		       "CPU time of the agent; that of the hooks is their callers'.");
	metrics_sample_real(text, NULL,
			    usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
				    (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
}

static void add_files(struct metrics_text *text)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	struct rlimit limit;
	uint64_t n = 0;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		n += *entry->d_name != '.';
	closedir(dir);
	metrics_family(text, METRICS_GAUGE, "process_open_fds", "Files that the agent has open.");
	metrics_sample(text, NULL, n - 1); /* without the directory itself */
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	metrics_family(text, METRICS_GAUGE, "process_max_fds", "Files that it may have open.");
	metrics_sample(text, NULL, limit.rlim_cur);
}

void metrics_add_process(struct metrics_text *text)
{
	add_start(text);
	add_time(text);
	add_memory(text);
	add_files(text);
}
