"""Instruction traces: functions of binaries as rows of words, ``push rbp [NEXT] mov eax dword [ rbp - 4 ]``."""
