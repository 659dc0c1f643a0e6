"""The local store of everything since training: profiles, counts, erasures, and the offsets that were reached."""
