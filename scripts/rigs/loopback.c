/* Preloaded: what would listen on all interfaces listens on 127.0.0.1 only. */
long syscall(long number, ...);

struct inet { unsigned short family; unsigned short port; unsigned int address; };

int bind(int socket, struct inet *name, unsigned int length)
{
    if (name && length >= sizeof *name && name->family == 2 && name->address == 0)
        name->address = 0x0100007f;
    return syscall(49, socket, name, length);
}
