/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The socket file of the control: made without a moment of wrong permissions, removed if still
 * ours. Reads from: the directory of the socket, the group database, the credentials of peers.
 * Writes to: that directory.
 */
#include "control_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "shunt/proto.h"
#include "util/cleanup.h"

/* Opens @path, which ends with a slash or is empty; makes the last part of it if need be. */
static int socket_open_dir(const char *path, int *ret)
{
	int fd;

	if (!*path)
		path = ".";
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

static int socket_new(int *ret)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

/* 0 if @path may be replaced: nothing is there, or a socket that nobody listens on any more. */
static int socket_check_stale(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	r = socket_new(&fd);
	if (r < 0)
		return r;
	strcpy(address.sun_path, path);
	/* EAGAIN: an agent whose queue is full; it listens all the same. */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN)
		return -EADDRINUSE;
	return errno == ECONNREFUSED || errno == ENOENT ? 0 : -errno;
}

/*
 * Binds to @name in @dir, through /proc because that stays short however long the path is. Linux
 * makes the file with the mode of the socket itself, so that it is never open to others, whatever
 * the umask; the group is let in once it owns the file.
 */
static int socket_bind(int fd, int dir, const char *name, gid_t group, struct stat *ret_stat)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int r;

	r = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir, name);
	if (r >= (int)sizeof(address.sun_path))
		return -ENAMETOOLONG;
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return -errno;
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	if (group != (gid_t)-1 && fchownat(dir, name, -1, group, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (fchmodat(dir, name, 0660, 0) < 0 || listen(fd, SHUNT_PROTO_CLIENTS_MAX) < 0 ||
	    fstatat(dir, name, ret_stat, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

int control_socket_init(struct control_socket *ret, const char *path)
{
	const struct group *group = getgrnam(SHUNT_GROUP);
	gid_t gid = group ? group->gr_gid : (gid_t)-1;
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	_cleanup_free_ char *copy = strdup(path), *parent = strndup(path, name - path);
	_cleanup_close_ int dir = -1, fd = -1;
	char temporary[32];
	struct stat st;
	int r;

	if (!copy || !parent)
		return -ENOMEM;
	if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return -ENAMETOOLONG;
	r = socket_open_dir(parent, &dir);
	if (r < 0)
		return r;
	r = socket_check_stale(path);
	if (r < 0)
		return r;
	r = socket_new(&fd);
	if (r < 0)
		return r;

	snprintf(temporary, sizeof(temporary), ".shuntd-%d", getpid());
	r = socket_bind(fd, dir, temporary, gid, &st);
	if (r == 0 && renameat(dir, temporary, dir, name) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dir, temporary, 0);
		return r;
	}
	*ret = (struct control_socket){
		.fd = TAKE_FD(fd),
		.path = TAKE_PTR(copy),
		.device = st.st_dev,
		.inode = st.st_ino,
		.group = gid,
	};
	return 0;
}

bool control_socket_is_there(const struct control_socket *socket)
{
	struct stat st;

	return lstat(socket->path, &st) == 0 && st.st_dev == socket->device &&
	       st.st_ino == socket->inode;
}

void control_socket_deinit(struct control_socket *socket)
{
	/* Before the close: as long as we listen no other agent takes the path. */
	if (control_socket_is_there(socket))
		unlink(socket->path);
	close(socket->fd);
	free(socket->path);
}

/* The supplementary groups that the peer had when it connected. */
static bool peer_in_group(int fd, gid_t group)
{
	_cleanup_free_ gid_t *groups = NULL;
	socklen_t len = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) == 0 || errno != ERANGE)
		return false;
	groups = malloc(len);
	if (!groups || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(*groups); i++) {
		if (groups[i] == group)
			return true;
	}
	return false;
}

bool control_socket_admits(const struct control_socket *socket, int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	if (peer.uid == 0 || peer.uid == geteuid())
		return true;
	return socket->group != (gid_t)-1 &&
	       (peer.gid == socket->group || peer_in_group(fd, socket->group));
}
