package bpf

// The objects are committed; CI generates them again and compares. asm/ headers lie where Debian puts them.
//
//go:generate go tool bpf2go -go-package bpf -target bpfel -cflags "-I/usr/include/x86_64-linux-gnu -O2 -g -Wall -Wextra -Werror -Wno-address-of-packed-member" -type verdict -type endpoint -type address -type port_range -type prefix -type prefix_range -type prefix_ranges -type mac steer steer.c
//go:generate go tool bpf2go -go-package bpf -target bpfel -cflags "-I/usr/include/x86_64-linux-gnu -O2 -g -Wall -Wextra -Werror -Wno-address-of-packed-member" decap decap.c
//go:generate go tool bpf2go -go-package bpf -target bpfel -cflags "-I/usr/include/x86_64-linux-gnu -O2 -g -Wall -Wextra -Werror -Wno-address-of-packed-member" tags tags.c
//go:generate go tool bpf2go -go-package bpf -target bpfel -cflags "-I/usr/include/x86_64-linux-gnu -O2 -g -Wall -Wextra -Werror -Wno-address-of-packed-member" -type slot inject inject.c
