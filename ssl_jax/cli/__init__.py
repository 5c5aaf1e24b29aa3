"""The command line.

command_line   flags and overrides, their mistakes told in one message
config_files   a config by its name
process        what JAX is told before its devices start
usage          what --help says
cluster        where a process stands among those that it trains with
joined         how it joins them, and ends with them
modes          one function for each --mode
predict        --mode=predict
embed          --mode=embed
export         --mode=export
new_images     what both ask about, and what is said of each
"""
