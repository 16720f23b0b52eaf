"""What the Triton kernels that were written by hand for each cell compiled to.

Counted in the commit 3138c790, the last that had them, with the reader of machine code that the
tests use.
"""

TRITON_VERSION = "3.7.1"

# By the axes of `lstm-bench inspect triton`: a thread's registers and the instructions of the step
# loop, of inference, a forward that saves, a backward and one that recomputes, of each H.
HAND_WRITTEN = {
    "--cell gru --arch sm_90 --dtype float16 --hidden 64,128": (
        *((186, 659), (190, 681), (160, 440), (168, 856)),
        *((184, 714), (190, 736), (220, 554), (212, 969)),
    ),
    "--cell gru --arch sm_90 --dtype bfloat16 --hidden 64,128": (
        *((186, 671), (190, 693), (160, 461), (175, 891)),
        *((184, 726), (190, 748), (220, 574), (212, 1005)),
    ),
    "--cell gru --arch sm_80 --dtype float16 --hidden 64,128": (
        *((176, 659), (180, 681), (160, 439), (165, 854)),
        *((200, 723), (204, 745), (216, 554), (207, 968)),
    ),
    "--cell gru --arch sm_80 --dtype bfloat16 --hidden 64,128": (
        *((176, 671), (180, 693), (160, 459), (171, 920)),
        *((200, 735), (204, 757), (216, 573), (204, 1035)),
    ),
}
