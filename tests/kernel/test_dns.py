#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""UDP: queries to DNS servers go to the sidecar, and each answer comes from the server asked."""
import ctypes
import socket
import struct

from case import (DNS4, DNS6, FAR4, FAR6, MAPPED, POD4, POD6, Case, attempt, check, disconnect,
                  family_of, is_ipv4, libc, main, names, original_dst, plain)

DNS = 53
OTHER_PORT = 5353
BOUND_PORT = 7777
IP_PKTINFO = 8
PAIRS = (FAR4, "10.83.0.53"), (FAR6, "fd83::53"), (MAPPED, "::ffff:10.83.0.53")
OWN = {FAR4: POD4, FAR6: POD6, MAPPED: f"::ffff:{POD4}"}  # from which each is asked
RESOLVERS_MAX = 16  # SHUNT_RESOLVERS_MAX


def sockaddr_in(host, port, family=socket.AF_INET):
    return struct.pack("=H", family) + struct.pack("!H4s8x", port, socket.inet_aton(host))


class DnsCase(Case):
    def setUp(self):
        self.servers = {socket.AF_INET: self.serve(self.world.proxy, DNS4),
                        socket.AF_INET6: self.serve(self.world.proxy, DNS6)}

    def serve(self, place, name):
        return self.keep(place.bind(*name, kind=socket.SOCK_DGRAM))

    def udp(self, address=FAR4):
        return self.new_socket(family_of(address), socket.SOCK_DGRAM)

    def ask(self, sock, *resolvers):
        """Sends each a query that says whom it is for."""
        for resolver in resolvers:
            sock.sendto(resolver.encode(), (resolver, DNS))

    def reply(self, resolver):
        """The sidecar answers the next query with the same words; gives who asked."""
        server = self.servers[socket.AF_INET if is_ipv4(resolver) else socket.AF_INET6]
        query, client = server.recvfrom(512)
        server.sendto(query, client)
        return client

    def assert_answer(self, sock, resolver):
        """That the next answer is for the query to this resolver, and comes from there."""
        answer, sender = sock.recvfrom(512)
        self.assertEqual((answer.decode(), *sender[:2]), (resolver, resolver, DNS))

    def assert_answered(self, sock, *resolvers):
        self.ask(sock, *resolvers)
        for resolver in resolvers:
            self.reply(resolver)
        for resolver in resolvers:
            self.assert_answer(sock, resolver)


class Unconnected(DnsCase):
    def test_one_server(self):
        for resolver in FAR4, FAR6, MAPPED:
            with self.subTest(resolver), self.counted(
                    sendmsg_redirected=1, dns_redirected=1, sendmsg_not_dns=1, dns_restored=1):
                self.assert_answered(self.udp(resolver), resolver)

    def test_two_servers(self):
        for pair in PAIRS:
            with self.subTest(pair), self.counted(
                    sendmsg_redirected=2, sendmsg_not_dns=2, dns_answered=1, dns_restored=2):
                self.assert_answered(self.udp(pair[0]), *pair)

    def test_answers_out_of_order(self):
        sock = self.udp()
        resolvers = [f"10.83.0.{n}" for n in range(10, 15)]
        self.ask(sock, *resolvers)
        server = self.servers[socket.AF_INET]
        for query, client in reversed([server.recvfrom(512) for _ in resolvers]):
            server.sendto(query, client)
        for resolver in reversed(resolvers):
            self.assert_answer(sock, resolver)

    def test_both_families_on_one_socket(self):
        sock = self.udp(FAR6)
        for _ in range(2):
            self.assert_answered(sock, MAPPED, FAR6, "::ffff:10.83.0.53", "fd83::53")

    def test_the_same_server_again(self):
        sock = self.udp()
        with self.counted(sendmsg_redirected=6, sendmsg_not_dns=6, dns_resolver_dropped=0):
            for _ in range(3):
                self.assert_answered(sock, FAR4, "10.83.0.53")

    def test_as_many_servers_as_are_told_apart(self):
        for prefix in "10.83.1.", "fd83::1:":
            resolvers = [f"{prefix}{n + 1}" for n in range(RESOLVERS_MAX)]
            with self.subTest(prefix), self.counted(
                    sendmsg_redirected=16, sendmsg_not_dns=16, dns_resolver_dropped=0):
                self.assert_answered(self.udp(resolvers[0]), *resolvers)

    def test_more_servers_than_are_told_apart(self):
        """Some are forgotten, but not those asked lately."""
        sock = self.udp()
        resolvers = [f"10.83.1.{n + 1}" for n in range(RESOLVERS_MAX + 4)]
        with self.counted(sendmsg_redirected=30, sendmsg_not_dns=30, dns_resolver_dropped=4):
            for resolver in resolvers:
                self.assert_answered(sock, resolver)
            self.assert_answered(sock, *resolvers[-10:])

    def test_many_messages_at_once(self):
        """sendmmsg() and recvmmsg(); besides, queries in several pieces."""
        resolvers = [f"10.83.0.{n}" for n in range(10, 14)]
        sock = self.udp()
        sent = Messages([sockaddr_in(resolver, DNS) for resolver in resolvers],
                        [resolver.encode() for resolver in resolvers])
        self.assertEqual(check(libc.sendmmsg(sock.fileno(), sent.array, 4, 0)), 4)
        for resolver in resolvers:
            self.reply(resolver)
        received = Messages([bytes(16)] * 4, [bytes(16)] * 4)
        self.assertEqual(check(libc.recvmmsg(sock.fileno(), received.array, 4, 0, None)), 4)
        self.assertEqual(received.contents(), [
            (sockaddr_in(resolver, DNS), resolver.encode()) for resolver in resolvers])

    def test_pieces_and_peeking(self):
        sock = self.udp()
        sock.sendmsg([b"a", b"b"], (), 0, (FAR4, DNS))
        self.reply(FAR4)
        for flags in socket.MSG_PEEK, 0:
            text, _, _, sender = sock.recvmsg(16, 0, flags)
            self.assertEqual((text, sender), (b"ab", (FAR4, DNS)))

    def test_without_a_family(self):
        """sendto() takes an address of family 0 for IPv4, also the kernel's own."""
        sock = self.udp()
        name = sockaddr_in(FAR4, DNS, socket.AF_UNSPEC)
        check(libc.sendto(sock.fileno(), FAR4.encode(), len(FAR4), 0, name, len(name)))
        self.reply(FAR4)
        self.assert_answer(sock, FAR4)

    def test_ipv4_address_on_an_ipv6_socket(self):
        sock = self.udp(FAR6)
        name = sockaddr_in(FAR4, DNS)
        check(libc.sendto(sock.fileno(), MAPPED.encode(), len(MAPPED), 0, name, len(name)))
        self.reply(FAR4)
        self.assert_answer(sock, MAPPED)

    def test_names_are_plain(self):
        def ask():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"?", (FAR4, DNS))
                return names(sock)
        self.assert_as_outside(ask)

    def test_bound_to_no_address(self):
        """As the resolver of musl is."""
        for pair in PAIRS:
            with self.subTest(pair), self.counted(
                    sendmsg_redirected=2, sendmsg_not_dns=2, dns_resolver_shared=0):
                sock = self.udp(pair[0])
                sock.bind(("", 0))
                self.assert_answered(sock, *pair)

    def test_other_traffic_of_the_same_socket(self):
        far = self.keep(self.world.far.bind("::", OTHER_PORT, socket.SOCK_DGRAM))
        for pair in PAIRS:
            with self.subTest(pair):
                sock = self.udp(pair[0])
                self.ask(sock, *pair)
                with self.counted(sendmsg_not_dns=1):
                    sock.sendto(b"other", (pair[0], OTHER_PORT))
                query, client = far.recvfrom(512)
                self.assertEqual((query, plain(client[0])), (b"other", plain(OWN[pair[0]])))
                far.sendto(b"answer", client)
                answer, sender = sock.recvfrom(512)
                self.assertEqual((answer, sender[:2]), (b"answer", (pair[0], OTHER_PORT)))
                for resolver in pair:
                    self.reply(resolver)
                    self.assert_answer(sock, resolver)

    def test_datagrams_of_others(self):
        """They come from where they come from, even from the sidecar's address, other port."""
        for resolver, loopback in (FAR4, "127.0.0.1"), (FAR6, "::1"), (MAPPED, "::ffff:127.0.0.1"):
            with self.subTest(resolver):
                sock = self.udp(resolver)
                self.assert_answered(sock, resolver)
                other = self.serve(self.world.proxy, (plain(loopback), 15054))
                with other, self.counted(dns_restored=0, sendmsg_not_dns=1):
                    other.sendto(b"hello", (plain(loopback), sock.getsockname()[1]))
                    text, sender = sock.recvfrom(512)
                    self.assertEqual((text, sender[:2]), (b"hello", (loopback, 15054)))

    def test_passed_to_another_cgroup(self):
        for resolver in FAR4, FAR6, MAPPED:
            with self.subTest(resolver):
                sock = self.udp(resolver)
                self.world.outside.run(self.ask, sock, resolver)
                self.reply(resolver)
                text, sender = self.world.outside.run(sock.recvfrom, 512)
                self.assertEqual((text.decode(), sender[:2]), (resolver, (resolver, DNS)))

    def test_that_came_from_outside(self):
        """The socket's cgroup counts, and not that of the process that asks."""
        far = self.keep(self.world.far.bind("::", DNS, socket.SOCK_DGRAM))
        for server in FAR4, FAR6, MAPPED:
            for is_connected in False, True:
                with self.subTest(server, connected=is_connected), self.counted():
                    sock = self.world.outside.new_socket(family_of(server), socket.SOCK_DGRAM)
                    with sock:
                        if is_connected:
                            sock.connect((server, DNS))
                        self.ask(sock, server)
                        self.assertEqual(far.recvfrom(512)[0], server.encode())


class Shared(DnsCase):
    """Where answers cannot be told apart all come from the server that was asked last."""

    def assert_shared(self, sock, first, second):
        with self.counted(sendmsg_redirected=2, sendmsg_not_dns=2, dns_resolver_shared=1):
            for resolver in first, second:
                self.assert_answered(sock, resolver)
        self.ask(sock, first, second)
        for resolver in first, second:
            self.reply(resolver)
        for asked in first, second:
            answer, sender = sock.recvfrom(512)
            self.assertEqual((answer.decode(), sender[:2]), (asked, (second, DNS)))

    def test_bound_socket(self):
        for pair in PAIRS:
            with self.subTest(pair):
                sock = self.udp(pair[0])
                sock.bind((OWN[pair[0]], 0))
                self.assert_shared(sock, *pair)

    def test_source_named_by_the_datagram(self):
        sock = self.udp()
        source = struct.pack("=i4s4x", 0, socket.inet_aton(POD4))
        control = [(socket.IPPROTO_IP, IP_PKTINFO, source)]
        sock.sendmsg([FAR4.encode()], control, 0, (FAR4, DNS))
        self.assertEqual(self.reply(FAR4)[0], POD4)
        self.assert_answer(sock, FAR4)


class ForeignServer(DnsCase):
    """A DNS server that runs where no program of Shunt is attached: its answers bear no number."""

    def setUp(self):
        self.servers = {socket.AF_INET: self.serve(self.world.outside, DNS4),
                        socket.AF_INET6: self.serve(self.world.outside, DNS6)}

    def test_one_server(self):
        for resolver in FAR4, FAR6, MAPPED:
            with self.subTest(resolver), self.counted(sendmsg_redirected=1, dns_restored=1):
                self.assert_answered(self.udp(resolver), resolver)

    def test_two_servers(self):
        sock = self.udp()
        with self.counted(sendmsg_redirected=2, dns_resolver_shared=1):
            for resolver in FAR4, "10.83.0.53":
                self.assert_answered(sock, resolver)


class Connected(DnsCase):
    def assert_exchange(self, sock, resolver):
        sock.send(resolver.encode())
        client = self.reply(resolver)
        self.assert_answer(sock, resolver)
        return client

    def test_exchange(self):
        for resolver in FAR4, FAR6, MAPPED:
            with self.subTest(resolver):
                sock = self.udp(resolver)
                with self.counted(connect_redirected=1, dns_redirected=1):
                    sock.connect((resolver, DNS))
                client = self.assert_exchange(sock, resolver)
                self.assertEqual(client[0], plain(OWN[resolver]))

    def test_names(self):
        for resolver in FAR4, FAR6, MAPPED:
            with self.subTest(resolver):
                def names_on_the_way():
                    seen = []
                    with socket.socket(family_of(resolver), socket.SOCK_DGRAM) as sock:
                        for port in DNS, OTHER_PORT, DNS:
                            sock.connect((resolver, port))
                            seen.append(names(sock))
                        disconnect(sock)
                        seen.append(names(sock))
                    return seen
                self.assert_as_outside(names_on_the_way)

    def assert_can_be_connected_again(self, sock, *resolvers):
        for resolver in resolvers:
            sock.connect((resolver, DNS))
            self.assert_exchange(sock, resolver)

    def test_connected_again(self):
        for pair in PAIRS:
            with self.subTest(pair):
                self.assert_can_be_connected_again(self.udp(pair[0]), *pair, *pair)

    def test_connected_again_after_it_was_used(self):
        """It has a port already. So it cannot be bound to an address any more, and gets that of
        the way to the sidecar."""
        for pair in PAIRS:
            with self.subTest(pair):
                sock = self.udp(pair[0])
                self.assert_answered(sock, *pair)
                self.assert_can_be_connected_again(sock, *pair, *pair)

    def test_bound(self):
        """To an address, a port, both: names, and the exchange."""
        for resolver in FAR4, FAR6, MAPPED:
            for name in (OWN[resolver], 0), ("", BOUND_PORT), (OWN[resolver], BOUND_PORT):
                with self.subTest(resolver, bound=name):
                    def connect():
                        with socket.socket(family_of(resolver), socket.SOCK_DGRAM) as sock:
                            sock.bind(name)
                            sock.connect((resolver, DNS))
                            return names(sock)
                    self.assert_as_outside(connect)
                    with self.udp(resolver) as sock:
                        sock.bind(name)
                        sock.connect((resolver, DNS))
                        self.assert_exchange(sock, resolver)

    def test_passed_to_another_cgroup(self):
        for resolver in FAR4, FAR6, MAPPED:
            with self.subTest(resolver):
                sock = self.udp(resolver)
                with self.counted(connect_redirected=1):
                    self.world.outside.run(sock.connect, (resolver, DNS))
                self.assert_exchange(sock, resolver)

    def test_disconnected(self):
        for resolver, other in PAIRS:
            with self.subTest(resolver):
                sock = self.udp(resolver)
                sock.connect((resolver, DNS))
                self.assert_exchange(sock, resolver)
                disconnect(sock)
                self.assert_answered(sock, other)

    def test_late_answer_after_disconnect(self):
        for resolver in FAR4, FAR6, MAPPED:
            with self.subTest(resolver):
                sock = self.udp(resolver)
                sock.connect((resolver, DNS))
                sock.send(b"?")
                self.reply(resolver)
                disconnect(sock)
                self.assertEqual(sock.recvfrom(512)[0], b"?")

    def test_to_another_address_meanwhile(self):
        far = self.keep(self.world.far.bind("::", OTHER_PORT, socket.SOCK_DGRAM))
        for resolver in FAR4, FAR6, MAPPED:
            with self.subTest(resolver):
                sock = self.udp(resolver)
                sock.connect((resolver, DNS))
                sock.sendto(b"other", (resolver, OTHER_PORT))
                self.assertEqual(far.recvfrom(512)[0], b"other")
                self.assert_exchange(sock, resolver)

    def test_connected_while_it_was_not_redirected(self):
        """Answers come from that server alone, so what is asked goes there as before."""
        far = self.keep(self.world.far.bind("::", DNS, socket.SOCK_DGRAM))
        self.agent.reload(exclude_ports=DNS)
        self.addCleanup(self.agent.reload)
        socks = {server: self.udp(server) for server in (FAR4, FAR6, MAPPED)}
        for server, sock in socks.items():
            sock.connect((server, DNS))
        self.agent.reload()
        for server, sock in socks.items():
            with self.subTest(server), self.counted(sendmsg_already=2 if server == MAPPED else 1):
                for send in sock.send, lambda query: sock.sendto(query, (server, DNS)):
                    send(b"?")
                    query, client = far.recvfrom(512)
                    far.sendto(query, client)
                    self.assertEqual(sock.recvfrom(512)[1][:2], (server, DNS))

    def test_connected_from_the_sidecar_elsewhere(self):
        """The same server, while it does not listen: connect() fails as if its port were closed."""
        for resolver in FAR4, FAR6, MAPPED:
            family = socket.AF_INET if is_ipv4(resolver) else socket.AF_INET6
            with self.subTest(resolver):
                self.servers[family].close()
                sock = self.udp(resolver)
                for ask in sock.connect, lambda name: sock.sendto(b"?", name):
                    self.assertEqual(attempt(ask, (resolver, DNS)), "ECONNREFUSED")
                self.servers[family] = self.serve(
                    self.world.proxy, DNS4 if is_ipv4(resolver) else DNS6)
                sock.connect((resolver, DNS))
                self.assert_exchange(sock, resolver)

    def test_ipv4_address_on_an_ipv6_socket(self):
        sock = self.udp(FAR6)
        name = sockaddr_in(FAR4, DNS)
        check(libc.connect(sock.fileno(), name, len(name)))
        self.assertEqual(sock.getpeername()[0], MAPPED)
        self.assert_exchange(sock, MAPPED)


class Header(ctypes.Structure):
    """struct msghdr"""
    _fields_ = [("name", ctypes.c_void_p), ("name_len", ctypes.c_uint32),
                ("vector", ctypes.c_void_p), ("vector_len", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("control_len", ctypes.c_size_t),
                ("flags", ctypes.c_int)]


class Message(ctypes.Structure):
    """struct mmsghdr"""
    _fields_ = [("header", Header), ("len", ctypes.c_uint)]


class Vector(ctypes.Structure):
    """struct iovec"""
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class Messages:
    """struct mmsghdr[], one buffer each."""

    def __init__(self, addresses, texts):
        self.names = [ctypes.create_string_buffer(name, len(name)) for name in addresses]
        self.texts = [ctypes.create_string_buffer(text, len(text)) for text in texts]
        self.vectors = [Vector(ctypes.addressof(text), len(text)) for text in self.texts]
        self.array = (Message * len(texts))(*(
            (Header(ctypes.addressof(name), len(name), ctypes.addressof(vector), 1),)
            for name, vector in zip(self.names, self.vectors)))

    def contents(self):
        return [(name.raw, text.raw[:message.len])
                for name, text, message in zip(self.names, self.texts, self.array)]


class OverTcp(Case):
    mesh = {}

    def test_goes_to_the_dns_address(self):
        for resolver, name in (FAR4, DNS4), (FAR6, DNS6), (MAPPED, DNS4):
            with self.subTest(resolver):
                listener = self.keep(self.world.proxy.listen(*name))
                with self.counted(connect_redirected=1, dns_redirected=1):
                    sock = self.dial(resolver, DNS)
                proxied = self.accept(listener)
                level = socket.IPPROTO_IP if is_ipv4(resolver) else socket.IPPROTO_IPV6
                self.assertEqual(original_dst(proxied, level), (plain(resolver), DNS))
                self.assertEqual(sock.getpeername()[:2], (resolver, DNS))
                listener.close()


class OverTcpWithoutDns(Case):
    mesh = {"dns_redirect": None}

    def test_goes_to_the_tcp_address(self):
        with self.counted(connect_redirected=1):
            sock = self.dial(FAR4, DNS)
        self.assert_redirected(sock, FAR4, DNS)


if __name__ == "__main__":
    main()
